"""Exact tests on one feature: is the explanation better than chance, or than another feature's explanation?

One-sided: large scores are what is of interest. Both are exact for any number of trials, and condition on what says
nothing about the explanation. They take trials as independent. One test per feature makes many: adjust the p-values
with `benjamini_hochberg`.
"""

from dataclasses import dataclass
from itertools import starmap
from math import comb

from sae_auto_interp.metrics.classification import confusion
from sae_auto_interp.metrics.judged_trials import check_classification
from sae_auto_interp.types import Score, Trial


@dataclass(frozen=True, slots=True)
class Significance:
    """The outcome of a test; without a `p_value` there is a `reason`."""

    p_value: float | None
    method: str
    n: int
    """What the test rests on: trials, discordant pairs or features that differ."""
    n_failed: int
    reason: str | None = None


def chance_test(score: Score) -> Significance:
    """Fisher's exact test: given how often the judge said yes, are the yeses on the positives?

    P(at least this many hits) if the verdicts were dealt out at random over the trials: the permutation test of
    verdicts. A judge that ignores the explanation, whatever its rate of yes, falls below alpha at most alpha often.
    """
    counts = confusion(score)
    method = "Fisher's exact test, one-sided"
    if counts.missing_class is not None:
        return Significance(None, method, counts.n, counts.n_failed, counts.missing_class)
    n_yes = counts.tp + counts.fp
    return Significance(
        _at_least(counts.tp, n_yes, counts.n_positive, counts.n_negative), method, counts.n, counts.n_failed
    )


def shuffled_test(score: Score, shuffled: Score) -> Significance:
    """McNemar's exact test: of the trials that one explanation got right and the other wrong, are most our own's?

    Both scores must have put the same questions in the same order, as the scorers do. `n` counts the trials on which
    the two differ in being right; trials that failed in either are left out and counted.
    """
    method = "McNemar's exact test, one-sided"
    check_classification(score)
    check_classification(shuffled)
    pairs = list(zip(score.trials, shuffled.trials, strict=False))
    if not same_questions(score, shuffled):
        return Significance(None, method, 0, 0, "the two scores did not ask the same questions in the same order")
    judged = [(a, b) for a, b in pairs if a.prediction is not None and b.prediction is not None]
    won = sum(_is_right(a) and not _is_right(b) for a, b in judged)
    lost = sum(_is_right(b) and not _is_right(a) for a, b in judged)
    n, n_failed = won + lost, len(pairs) - len(judged)
    if not judged:
        return Significance(None, method, 0, n_failed, "no trial was judged with both explanations")
    return Significance(sum(comb(n, k) for k in range(won, n + 1)) / 2**n, method, n, n_failed)


def same_questions(first: Score, second: Score) -> bool:
    """Whether two scores put the same questions in the same order, as far as their trials tell."""
    pairs = zip(first.trials, second.trials, strict=False)
    return len(first.trials) == len(second.trials) and all(starmap(_is_same_question, pairs))


def _at_least(hits: int, n_yes: int, n_positive: int, n_negative: int) -> float:
    """Upper tail of the hypergeometric distribution, in whole numbers until the last division."""
    total = comb(n_positive + n_negative, n_yes)
    highest = min(n_yes, n_positive)
    return sum(comb(n_positive, k) * comb(n_negative, n_yes - k) for k in range(hits, highest + 1)) / total


def _is_same_question(first: Trial, second: Trial) -> bool:
    return (first.target, first.source, first.document, first.quantile) == (
        second.target,
        second.source,
        second.document,
        second.quantile,
    )


def _is_right(trial: Trial) -> bool:
    return trial.prediction == trial.target
