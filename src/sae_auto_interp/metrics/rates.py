"""Precision, F1 and MCC as functions of TPR, TNR and the share of positives.

A judge is described by its two rates; everything else follows from them and from how many positives there are. In
the test set that share is chosen; in text it is the feature's window density. With `share` the first is what a
textbook computes from counts, with `density` the second: see `prevalence`.
"""

from typing import TypeAlias

import numpy as np
from jaxtyping import Float64

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
