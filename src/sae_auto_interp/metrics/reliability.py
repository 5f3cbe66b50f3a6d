"""How much of the spread of scores over features is real, and what that does to correlations.

A feature's score is its true score plus the noise of its finite test set. Then over features

    reliability = 1 - mean sampling variance / variance of the scores

and the correlation of two noisy scores is lower than that of the true ones by the root of their reliabilities
(C. Spearman, American Journal of Psychology 15 (1904) 72). With an sd of .141 between features' balanced accuracies and
.75 as a typical one, reliability is .53 for 10 trials per class, .81 for 25, .905 for 50, .953 for 100.

Intervals: bootstrap over features. Nothing is clipped: a reliability below 0 says that there is no more spread than
noise, a corrected correlation above 1 that the two are not known well enough.
"""

import numpy as np
from jaxtyping import Float64

from sae_auto_interp.metrics.bootstrap import DEFAULT_RESAMPLES, Resampling, Statistic, bootstrap_estimate
from sae_auto_interp.metrics.classification import Confusion
from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL
from sae_auto_interp.metrics.rates import ratio
from sae_auto_interp.types import Array, Estimate


def balanced_accuracy_variance(counts: Confusion) -> float | None:
    """Sampling variance of (TPR + TNR) / 2: the unbiased p (1 - p) / (n - 1) of each rate, over 4.

    None where a class has fewer than 2 trials.
    """
    if counts.n_positive < 2 or counts.n_negative < 2:
        return None
    tpr, tnr = counts.tp / counts.n_positive, counts.tn / counts.n_negative
    return (tpr * (1 - tpr) / (counts.n_positive - 1) + tnr * (1 - tnr) / (counts.n_negative - 1)) / 4


def reliability(
    scores: Float64[Array, " n"],
    sampling_variances: Float64[Array, " n"],
    rng: np.random.Generator,
    level: float = DEFAULT_LEVEL,
    n_resamples: int = DEFAULT_RESAMPLES,
    n_failed: int = 0,
) -> Estimate:
    """1 - mean(sampling variance) / variance(scores) over features; undefined where all scores are equal."""
    statistic = _reliability(scores, sampling_variances)
    return _over_features(statistic, len(scores), rng, level, n_resamples, n_failed, "the scores are all equal")


def feature_correlation(
    first: Float64[Array, " n"],
    second: Float64[Array, " n"],
    rng: np.random.Generator,
    level: float = DEFAULT_LEVEL,
    n_resamples: int = DEFAULT_RESAMPLES,
    n_failed: int = 0,
) -> Estimate:
    """Pearson's correlation of two scores over features, noise and all; undefined where one of them is constant."""

    def statistic(weights: Float64[Array, "k n"]) -> Float64[Array, " k"]:
        spread = _covariance(weights, first, first) * _covariance(weights, second, second)
        return ratio(_covariance(weights, first, second), np.sqrt(np.where(spread > 1e-24, spread, 0.0)))

    reason = "too few features, or one of the scores is the same for all"
    return _over_features(statistic, len(first), rng, level, n_resamples, n_failed, reason)


def disattenuated_correlation(
    first: tuple[Float64[Array, " n"], Float64[Array, " n"]],
    second: tuple[Float64[Array, " n"], Float64[Array, " n"]],
    rng: np.random.Generator,
    level: float = DEFAULT_LEVEL,
    n_resamples: int = DEFAULT_RESAMPLES,
    n_failed: int = 0,
) -> Estimate:
    """Correlation of the true scores: Pearson's, over the root of both reliabilities.

    `first` and `second` are (scores, sampling variances) of the same features; the two noises must be independent, so
    not from the same trials. Undefined where a reliability is not above 0.
    """
    reliabilities = [_reliability(*first), _reliability(*second)]

    def statistic(weights: Float64[Array, "k n"]) -> Float64[Array, " k"]:
        product = reliabilities[0](weights) * reliabilities[1](weights)
        both_positive = (reliabilities[0](weights) > 0) & (reliabilities[1](weights) > 0)
        observed = _covariance(weights, first[0], second[0])
        spread = _covariance(weights, first[0], first[0]) * _covariance(weights, second[0], second[0])
        return ratio(observed, np.sqrt(np.where(both_positive, spread * product, 0.0)))

    reason = "a score varies over features no more than its noise"
    return _over_features(statistic, len(first[0]), rng, level, n_resamples, n_failed, reason)


def _reliability(scores: Array, variances: Array) -> Statistic:
    def statistic(weights: Float64[Array, "k n"]) -> Float64[Array, " k"]:
        n = weights.sum(axis=1)
        spread = _covariance(weights, scores, scores)
        return 1 - ratio(weights @ variances / n, np.where(spread > 1e-24, spread, 0.0))

    return statistic


def _covariance(weights: Array, first: Array, second: Array) -> Float64[Array, " k"]:
    """Unbiased, of weights that count repeats; 0 of fewer than two."""
    n = weights.sum(axis=1)
    u, v = first - first.mean(), second - second.mean()
    product = weights @ (u * v) - (weights @ u) * (weights @ v) / n
    return product / np.maximum(n - 1, 1)


def _over_features(
    statistic: Statistic,
    n: int,
    rng: np.random.Generator,
    level: float,
    n_resamples: int,
    n_failed: int,
    undefined: str,
) -> Estimate:
    resampling = Resampling(n_units=n, unit="features", level=level, n_resamples=n_resamples)
    return bootstrap_estimate(statistic, resampling, rng, n=n, n_failed=n_failed, undefined=undefined)
