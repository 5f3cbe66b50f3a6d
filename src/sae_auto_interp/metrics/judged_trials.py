"""The judged trials of a classification score as arrays; what failed is only counted.

AUROC: how well a judge's probabilities separate the windows that fire from those that do not.

In: a score, of verdicts or a ranking, whose every judged trial has a confidence. Out: an Estimate. Value:
Mann-Whitney, a tie counts one half. Interval: the score form of the Hanley-McNeil variance, method 5 of R. G. Newcombe,
Statistics in Medicine 25 (2006) 559. It is closed, needs no random numbers, stays within [0, 1] and keeps a width at
AUROC 1, where the plain Hanley-McNeil or DeLong interval is a point. It treats trials as independent.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from sae_auto_interp.errors import InputError
from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL, Interval, normal_quantile
from sae_auto_interp.types import NO_DOCUMENT, Array, Estimate, Score, Trial

NO_POSITIVES = "no judged trial is positive"


NO_NEGATIVES = "no judged trial is negative"


NEVER_YES = "the judge never answered yes"


@dataclass(frozen=True, slots=True)
class JudgedTrials:
    """One element per judged trial, in the score's order."""

    targets: Bool[Array, " n"]
    predictions: Bool[Array, " n"]
    confidences: Float64[Array, " n"]
    """NaN where the judge gave none."""
    clusters: Int64[Array, " n"]
    """Documents numbered 0, 1, ...; a trial without a document is one of its own."""
    n_failed: int

    @property
    def n(self) -> int:
        return len(self.targets)

    @property
    def n_clusters(self) -> int:
        return int(self.clusters.max()) + 1 if self.n else 0

    @property
    def missing_class(self) -> str | None:
        """Why a metric that needs both classes is undefined, if it is."""
        if not self.targets.any():
            return NO_POSITIVES
        return NO_NEGATIVES if self.targets.all() else None

    @property
    def missing_confidence(self) -> str | None:
        """Why a metric that needs every confidence is undefined, if it is."""
        n_missing = int((~np.isfinite(self.confidences)).sum())
        return f"{n_missing} of {self.n} judged trials have no confidence" if n_missing else None


def judged_trials(score: Score, keep: Callable[[Trial], bool] | None = None) -> JudgedTrials:
    """The judged trials, or those that `keep` keeps; raises InputError for a score of another kind."""
    check_classification(score)
    return _arrays(score, keep, lambda trial: trial.failure is None and trial.prediction is not None)


def ranked_trials(score: Score, keep: Callable[[Trial], bool] | None = None) -> JudgedTrials:
    """`judged_trials` for metrics of confidences, which rankings have too: their `predictions` mean nothing."""
    if score.kind != "ranking":
        return judged_trials(score, keep)
    return _arrays(score, keep, lambda trial: trial.failure is None)


def _arrays(score: Score, keep: Callable[[Trial], bool] | None, is_judged: Callable[[Trial], bool]) -> JudgedTrials:
    kept = [trial for trial in score.trials if keep is None or keep(trial)]
    judged = [trial for trial in kept if is_judged(trial)]
    return JudgedTrials(
        targets=np.array([t.target for t in judged], dtype=np.bool_),
        predictions=np.array([bool(t.prediction) for t in judged], dtype=np.bool_),
        confidences=np.array([math.nan if t.confidence is None else t.confidence for t in judged], dtype=np.float64),
        clusters=clusters_of([t.document for t in judged]),
        n_failed=len(kept) - len(judged),
    )


def check_classification(score: Score) -> None:
    """Raise InputError for a score of another kind."""
    if score.kind != "classification":
        raise InputError(f"score of {score.feature} by {score.scorer!r} is of kind {score.kind!r}, not classification")


def clusters_of(documents: list[int]) -> Int64[Array, " n"]:
    """Documents numbered 0, 1, ...; each item without a document is one of its own."""
    keys = [(document, 0) if document != NO_DOCUMENT else (NO_DOCUMENT, i) for i, document in enumerate(documents)]
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return np.array([number[key] for key in keys], dtype=np.int64)


_METHOD = "Newcombe's score interval for the Mann-Whitney statistic"


_N_HALVINGS = 40


def auroc(score: Score, level: float = DEFAULT_LEVEL) -> Estimate:
    """Area under the ROC curve of the confidences; undefined unless every judged trial has one."""
    trials = ranked_trials(score)
    reason = trials.missing_class or trials.missing_confidence
    if reason is not None:
        return Estimate(None, None, None, level, _METHOD, trials.n, trials.n_failed, reason)
    positive, negative = trials.confidences[trials.targets], trials.confidences[~trials.targets]
    area = mann_whitney(positive, negative)
    interval = newcombe_interval(area, len(positive), len(negative), level)
    return Estimate(area, interval.low, interval.high, level, _METHOD, trials.n, trials.n_failed)


def mann_whitney(positive: Float64[Array, " n_positive"], negative: Float64[Array, " n_negative"]) -> float:
    """P(positive > negative) + P(equal) / 2 over all pairs, in O(n log n)."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left")
    not_above = np.searchsorted(ordered, positive, side="right")
    return float((below + not_above).mean() / 2 / len(negative))


def newcombe_interval(area: float, n_positive: int, n_negative: int, level: float = DEFAULT_LEVEL) -> Interval:
    """The areas that lie within z of their own standard errors of the observed one."""
    z = normal_quantile(level)

    def is_compatible(theta: float) -> bool:
        return (area - theta) ** 2 <= z * z * _variance(theta, n_positive, n_negative)

    return Interval(_boundary(is_compatible, area, 0.0), _boundary(is_compatible, area, 1.0))


def _variance(theta: float, n_positive: int, n_negative: int) -> float:
    """Hanley and McNeil's variance under exponential scores, symmetrised over the two class sizes."""
    size = (n_positive + n_negative) / 2 - 1
    growth = 1 + size * (1 - theta) / (2 - theta) + size * theta / (1 + theta)
    return theta * (1 - theta) * growth / (n_positive * n_negative)


def _boundary(is_compatible: Callable[[float], bool], inside: float, outside: float) -> float:
    """Bisect between a compatible value and the end of the range; at the end itself that end is the limit."""
    for _ in range(_N_HALVINGS):
        middle = (inside + outside) / 2
        if is_compatible(middle):
            inside = middle
        else:
            outside = middle
    return outside
