"""AUROC: how well a judge's probabilities separate the windows that fire from those that do not.

In: a score, of verdicts or a ranking, whose every judged trial has a confidence. Out: an Estimate. Value:
Mann-Whitney, a tie counts one half. Interval: the score form of the Hanley-McNeil variance, method 5 of R. G. Newcombe,
Statistics in Medicine 25 (2006) 559. It is closed, needs no random numbers, stays within [0, 1] and keeps a width at
AUROC 1, where the plain Hanley-McNeil or DeLong interval is a point. It treats trials as independent.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL, Interval, normal_quantile
from sae_auto_interp.metrics.judged_trials import ranked_trials
from sae_auto_interp.types import Array, Estimate, Score

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
