"""Exact tests on one feature: is the explanation better than chance, or than another feature's explanation?

One-sided: large scores are what is of interest. Both are exact for any number of trials, and condition on what says
nothing about the explanation. They take trials as independent. One test per feature makes many: adjust the p-values
with `benjamini_hochberg`.

Many p-values at once: which to believe.

In: p-values. Out: adjusted p-values in the same order, to be compared with the level (Holm) or with the rate of false
discoveries q (Benjamini-Hochberg).

Holm for a handful of comparisons, where one false claim is too many: S. Holm, Scandinavian Journal of Statistics 6
(1979) 65; valid under any dependence. Benjamini-Hochberg for one test per feature, where a share q of false ones is
accepted: Y. Benjamini and Y. Hochberg, JRSS B 57 (1995) 289; valid for independent or positively dependent tests.
"""

from dataclasses import dataclass
from itertools import starmap
from math import comb

import numpy as np
from jaxtyping import Float64

from sae_auto_interp.errors import InputError
from sae_auto_interp.metrics.classification import confusion
from sae_auto_interp.metrics.judged_trials import check_classification
from sae_auto_interp.types import Array, Score, Trial


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


def holm(p_values: Float64[Array, " n"]) -> Float64[Array, " n"]:
    """Adjusted p-values: with rank i of n (from 1), max over ranks up to i of (n - i + 1) p, at most 1."""
    ordered, order = _ordered(p_values)
    factors = len(ordered) - np.arange(len(ordered))
    return _restored(np.minimum(np.maximum.accumulate(factors * ordered), 1.0), order)


def benjamini_hochberg(p_values: Float64[Array, " n"]) -> Float64[Array, " n"]:
    """Adjusted p-values (q-values): with rank i of n, min over ranks from i on of n p / i."""
    ordered, order = _ordered(p_values)
    scaled = ordered * len(ordered) / np.arange(1, len(ordered) + 1)
    return _restored(np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0), order)


def _ordered(p_values: Float64[Array, " n"]) -> tuple[Array, Array]:
    is_p = (p_values >= 0) & (p_values <= 1)
    if not is_p.all():
        raise InputError(f"{p_values[~is_p][0]} is no p-value; leave out what is undefined and give values from 0 to 1")
    order = np.argsort(p_values, kind="stable")
    return p_values[order], order


def _restored(adjusted: Array, order: Array) -> Float64[Array, " n"]:
    result = np.empty(len(order))
    result[order] = adjusted
    return result
