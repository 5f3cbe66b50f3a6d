"""What a metric would be if every failed trial had been wrong, or right: how much the failures could matter.

Failed trials are in no metric, which is fair only if a failure says nothing about the answer. These bounds need no
such assumption (C. F. Manski, Identification for Prediction and Decision, 2007, chapter 2). Narrow bounds: the
failures do not matter. Wide ones: mend the failures before believing the metric.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from sae_auto_interp.metrics.classification import balanced_accuracy
from sae_auto_interp.metrics.judged import check_classification
from sae_auto_interp.types import Estimate, Score, Trial


@dataclass(frozen=True, slots=True)
class FailureBounds:
    """A metric at the two extremes; in both, every trial counts and `n_failed` is 0."""

    if_all_wrong: Estimate
    if_all_right: Estimate


def failure_bounds(score: Score, metric: Callable[[Score], Estimate] = balanced_accuracy) -> FailureBounds:
    """Bounds of a metric of verdicts (tpr, tnr, balanced_accuracy, precision, f1, mcc) over what failed.

    Each of these grows with every right verdict, so no other outcome of the failures gives more or less. A feature
    whose every trial failed is bounded by 0 and 1 (MCC: -1 and 1). For the bounds of a run, take the mean of each
    over features.
    """
    check_classification(score)
    return FailureBounds(metric(_settled(score, is_right=False)), metric(_settled(score, is_right=True)))


def _settled(score: Score, is_right: bool) -> Score:
    return replace(score, trials=tuple(_settled_trial(trial, is_right) for trial in score.trials))


def _settled_trial(trial: Trial, is_right: bool) -> Trial:
    if trial.failure is None and trial.prediction is not None:
        return trial
    return replace(trial, prediction=trial.target == is_right, failure=None)
