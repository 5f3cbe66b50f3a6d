"""Precision, F1 and MCC as functions of TPR, TNR and the share of positives.

A judge is described by its two rates; everything else follows from them and from how many positives there are. In
the test set that share is chosen; in text it is the feature's window density. With `share` the first is what a
textbook computes from counts, with `density` the second: see `prevalence`.

Metrics as functions of weights, for the bootstrap: how often each trial counts -> the metric's value.

In: arrays over trials. Out: a `Statistic`: weights [k, n] -> values [k], NaN where undefined. With weights of one
it is the metric itself; `tests/metrics` compare both with scikit-learn's `sample_weight`.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Int64

from sae_auto_interp.metrics.bootstrap import Statistic
from sae_auto_interp.types import Array

Share: TypeAlias = "float | Array"
"""Share of positives: one, or one per element."""


def ratio(numerator: Array, denominator: Array) -> Array:
    """Elementwise; NaN where the denominator is 0."""
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    return np.divide(numerator, denominator, out=np.full(shape, np.nan), where=np.asarray(denominator) != 0)


def balanced_accuracy_of_rates(
    true_positive: Float64[Array, " k"], true_negative: Float64[Array, " k"], _: Share
) -> Float64[Array, " k"]:
    """(TPR + TNR) / 2, whatever the share."""
    return (true_positive + true_negative) / 2


def precision_of_rates(
    true_positive: Float64[Array, " k"], true_negative: Float64[Array, " k"], share: Share
) -> Float64[Array, " k"]:
    """share TPR / (share TPR + (1 - share) FPR); NaN where nothing is accepted."""
    hits = share * true_positive
    return ratio(hits, hits + (1 - share) * (1 - true_negative))


def f1_of_rates(
    true_positive: Float64[Array, " k"], true_negative: Float64[Array, " k"], share: Share
) -> Float64[Array, " k"]:
    """2 share TPR / (share TPR + share + (1 - share) FPR)."""
    hits = share * true_positive
    return 2 * hits / (hits + share + (1 - share) * (1 - true_negative))


def mcc_of_rates(
    true_positive: Float64[Array, " k"], true_negative: Float64[Array, " k"], share: Share
) -> Float64[Array, " k"]:
    """sqrt(share (1 - share)) (TPR + TNR - 1) / sqrt(yes (1 - yes)); 0 where every verdict is the same."""
    yes = share * true_positive + (1 - share) * (1 - true_negative)
    spread = np.sqrt(np.clip(yes * (1 - yes), 0.0, None))
    covariance = np.sqrt(share * (1 - share)) * (true_positive + true_negative - 1)
    return np.divide(covariance, spread, out=np.zeros_like(covariance), where=spread > 1e-12)


RateMetric = Callable[[Array, Array, Share], Array]


def of_rates(
    combine: RateMetric, targets: Bool[Array, " n"], predictions: Bool[Array, " n"], share: float | None = None
) -> Statistic:
    """A function of TPR, TNR and the share of positives; without `share`, that of the weights."""
    is_positive = targets.astype(np.float64)
    is_hit, is_rejected = (targets & predictions).astype(np.float64), (~targets & ~predictions).astype(np.float64)

    def statistic(weights: Float64[Array, "k n"]) -> Float64[Array, " k"]:
        positive, negative = weights @ is_positive, weights @ (1 - is_positive)
        true_positive, true_negative = ratio(weights @ is_hit, positive), ratio(weights @ is_rejected, negative)
        used = positive / (positive + negative) if share is None else share
        return combine(true_positive, true_negative, used)

    return statistic


def mean_statistic(values: Float64[Array, " n"]) -> Statistic:
    """Weighted mean."""
    return lambda weights: ratio(weights @ values, weights.sum(axis=1))


def share_of(among: Bool[Array, " n"], chosen: Bool[Array, " n"]) -> Statistic:
    """Weighted share of `chosen` within `among`, e.g. TPR: accepted among positives."""
    inside, both = among.astype(np.float64), (among & chosen).astype(np.float64)
    return lambda weights: ratio(weights @ both, weights @ inside)


def auroc_statistic(targets: Bool[Array, " n"], confidences: Float64[Array, " n"]) -> Statistic:
    """P(positive > negative) + P(equal) / 2."""
    order, starts = _tied(confidences)

    def statistic(weights: Float64[Array, "k n"]) -> Float64[Array, " k"]:
        positive, negative = _by_class(weights, targets, order, starts)
        below = np.cumsum(negative, axis=1) - negative
        won = (positive * (below + negative / 2)).sum(axis=1)
        return ratio(won, positive.sum(axis=1) * negative.sum(axis=1))

    return statistic


def average_precision_statistic(
    targets: Bool[Array, " n"], confidences: Float64[Array, " n"], share: float | None = None
) -> Statistic:
    """Sum over thresholds, from the highest, of (step in recall) x precision, as scikit-learn has it.

    With `share`, positives and negatives weigh as if the first were that share of all.
    """
    order, starts = _tied(-confidences)

    def statistic(weights: Float64[Array, "k n"]) -> Float64[Array, " k"]:
        positive, negative = _by_class(weights, targets, order, starts)
        n_positive, n_negative = positive.sum(axis=1, keepdims=True), negative.sum(axis=1, keepdims=True)
        steps = ratio(positive, n_positive)
        if share is not None:
            positive, negative = share * steps, (1 - share) * ratio(negative, n_negative)
        accepted = np.cumsum(positive, axis=1)
        precision = ratio(accepted, accepted + np.cumsum(negative, axis=1))
        values = np.where(positive > 0, steps * precision, 0.0).sum(axis=1)
        return np.where((n_positive > 0) & (n_negative > 0), values[:, None], np.nan)[:, 0]

    return statistic


def _tied(values: Float64[Array, " n"]) -> tuple[Int64[Array, " n"], Int64[Array, " n_distinct"]]:
    """Ascending order, and where each distinct value starts in it."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return order, starts


def _by_class(
    weights: Float64[Array, "k n"],
    targets: Bool[Array, " n"],
    order: Int64[Array, " n"],
    starts: Int64[Array, " n_distinct"],
) -> tuple[Float64[Array, "k n_distinct"], Float64[Array, "k n_distinct"]]:
    """Weight of positives and of negatives at each distinct value."""
    ordered = weights[:, order]
    is_positive = targets[order]
    if len(starts) == len(order):  # no ties
        positive = ordered * is_positive
        return positive, ordered - positive
    return (
        np.add.reduceat(ordered * is_positive, starts, axis=1),
        np.add.reduceat(ordered * ~is_positive, starts, axis=1),
    )
