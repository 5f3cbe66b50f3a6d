"""Scores against each kind of negative, and discrimination: is it this feature, or only one like it?

Against random windows an over-broad explanation looks perfect; against windows of the feature's neighbours, on which it
is itself silent, it does not. No further model call: a scorer's trials know where their windows came from.
"""

from collections.abc import Iterable
from dataclasses import replace

from sae_auto_interp.metrics.classification import balanced_accuracy
from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL
from sae_auto_interp.metrics.judged_trials import check_classification, judged_trials
from sae_auto_interp.metrics.ranking import auroc
from sae_auto_interp.types import Estimate, ExampleSource, Score

NEIGHBOURS: tuple[ExampleSource, ...] = ("neighbour",)


def balanced_accuracy_by_source(score: Score, level: float = DEFAULT_LEVEL) -> dict[ExampleSource, Estimate]:
    """(TPR + TNR) / 2 with the negatives of one kind at a time; chance is 0.5 for each."""
    check_classification(score)
    sources: list[ExampleSource] = sorted({t.source for t in score.trials if not t.target})
    return {source: balanced_accuracy(_against(score, (source,)), level) for source in sources}


def discrimination(
    score: Score, level: float = DEFAULT_LEVEL, sources: Iterable[ExampleSource] = NEIGHBOURS
) -> Estimate:
    """P(an activating window fits the explanation better than a neighbour's window), a tie counting one half.

    Over all pairs of an activating window and one of a neighbour on which this feature is silent: .5 where two features
    share one explanation. By the judge's probabilities where every trial has one; verdicts are tied with each other, so
    that by them this is the balanced accuracy against neighbours. After arXiv 2605.12874.
    """
    against = _against(score, tuple(sources))
    has_probabilities = judged_trials(against).missing_confidence is None
    return auroc(against, level) if has_probabilities else balanced_accuracy(against, level)


def _against(score: Score, sources: tuple[ExampleSource, ...]) -> Score:
    return replace(score, trials=tuple(t for t in score.trials if t.target or t.source in sources))
