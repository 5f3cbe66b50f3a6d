"""Metrics of simulated activations: correlation, and OpenAI's two explained shares.

In: a score of kind `simulation`, one trial per window with true and predicted activations of its tokens. With y true
and p predicted, over the concatenation of all windows (S. Bills et al., Language models can explain neurons, 2023):

    ev_correlation          Pearson correlation of y and p; unit and zero of p do not matter
    rsquared                1 - mean((y - p)^2) / mean(y^2)
    absolute_dev_explained  1 - mean|y - p| / mean|y|

Pooled, not averaged over windows: a window on which the feature is silent has no correlation of its own, and the
mean of the windows' correlations cannot see that one window is stronger than another. `rsquared` is not centred:
predicting 0 scores 0, predicting the mean scores above 0. It and the last need calibrated predictions.
Correlation on top-activating and random windows alone misses over-broad explanations (docs/methods/metrics.md).

Intervals: cluster bootstrap over documents.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float64

from sae_auto_interp.errors import InputError
from sae_auto_interp.metrics.bootstrap import Resampling, bootstrap_estimate
from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL
from sae_auto_interp.metrics.judged_trials import clusters_of
from sae_auto_interp.metrics.over_documents import DOCUMENT_RESAMPLES, by_cluster
from sae_auto_interp.metrics.rates import ratio
from sae_auto_interp.types import Array, Estimate, Score

Sums: TypeAlias = Float64[Array, "k 11"]


@dataclass(frozen=True, slots=True)
class _Window:
    true: Float64[Array, " n_tokens"]
    predicted: Float64[Array, " n_tokens"]
    document: int


@dataclass(frozen=True, slots=True)
class SimulationMetrics:
    """`n` and `n_failed` count windows."""

    ev_correlation: Estimate
    rsquared: Estimate
    absolute_dev_explained: Estimate


def simulation_metrics(
    score: Score, rng: np.random.Generator, level: float = DEFAULT_LEVEL, n_resamples: int = DOCUMENT_RESAMPLES
) -> SimulationMetrics:
    """The three metrics of one score; undefined, with the reason, where a variance or a mean is 0."""
    windows = _windows(score)
    n_failed = len(score.simulations) - len(windows)
    clusters = clusters_of([window.document for window in windows])
    n_units = int(clusters.max()) + 1 if windows else 0
    resampling = Resampling(n_units=n_units, unit="documents", level=level, n_resamples=n_resamples)
    sums = _sums(windows)

    def estimate(of_sums: Callable[[Array], Array], undefined: str) -> Estimate:
        statistic = by_cluster(lambda weights: of_sums(weights @ sums), clusters)
        reason = undefined if windows else "no window was simulated"
        return bootstrap_estimate(statistic, resampling, rng, n=len(windows), n_failed=n_failed, undefined=reason)

    return SimulationMetrics(
        estimate(_correlation, "the true activations or the predicted ones are all equal"),
        estimate(_rsquared, "the feature is silent in every window"),
        estimate(_absolute_dev_explained, "the feature is silent in every window"),
    )


def pearson(first: Float64[Array, " n"], second: Float64[Array, " n"]) -> float | None:
    """Pearson correlation; None where one of the two is constant, or there is nothing."""
    if len(first) == 0:
        return None
    value = float(_correlation(_sums([_Window(first, second, 0)]))[0])
    return value if np.isfinite(value) else None


def _windows(score: Score) -> list[_Window]:
    """The windows that have a prediction."""
    if score.kind != "simulation":
        raise InputError(f"score of {score.feature} by {score.scorer!r} is of kind {score.kind!r}, not simulation")
    windows: list[_Window] = []
    for trial in score.simulations:
        if trial.failure is not None or trial.predicted is None:
            continue
        if len(trial.true) != len(trial.predicted):
            raise InputError(
                f"{score.scorer!r} predicted {len(trial.predicted)} values for the {len(trial.true)} tokens of a "
                f"window of {score.feature}; give one per token"
            )
        true, predicted = np.array(trial.true, dtype=np.float64), np.array(trial.predicted, dtype=np.float64)
        windows.append(_Window(true, predicted, trial.document))
    return windows


def _sums(windows: list[_Window]) -> Float64[Array, "n_windows 11"]:
    """Per window: n, y, p, y^2, p^2, yp about the pooled means; then y^2, p^2, |y|, (y - p)^2, |y - p| as they are."""
    if not windows:
        return np.zeros((0, 11))
    centre_y = np.concatenate([w.true for w in windows]).mean()
    centre_p = np.concatenate([w.predicted for w in windows]).mean()
    rows: list[list[float]] = []
    for window in windows:
        y, p = window.true, window.predicted
        u, v, error = y - centre_y, p - centre_p, y - p
        moments = [len(y), u.sum(), v.sum(), (u * u).sum(), (v * v).sum(), (u * v).sum()]
        sizes = [(y * y).sum(), (p * p).sum(), np.abs(y).sum(), (error * error).sum(), np.abs(error).sum()]
        rows.append([float(value) for value in (*moments, *sizes)])
    return np.array(rows, dtype=np.float64)


def _correlation(sums: Sums) -> Float64[Array, " k"]:
    n, u, v, uu, vv, uv, yy, pp = sums[:, :8].T
    mean_u, mean_v = ratio(u, n), ratio(v, n)
    var_u, var_v = uu - n * mean_u**2, vv - n * mean_v**2
    is_defined = _is_spread(var_u, uu, yy) & _is_spread(var_v, vv, pp)
    spread = np.sqrt(np.where(is_defined, var_u * var_v, 0.0))
    return np.clip(ratio(uv - n * mean_u * mean_v, spread), -1.0, 1.0)


def _is_spread(variation: Array, about_the_mean: Array, raw: Array) -> Bool[Array, " k"]:
    """Whether a variation is more than the rounding errors of what it was computed from."""
    return (variation > 1e-12 * about_the_mean) & (variation > 1e-26 * raw)


def _rsquared(sums: Sums) -> Float64[Array, " k"]:
    return 1 - ratio(sums[:, 9], sums[:, 6])


def _absolute_dev_explained(sums: Sums) -> Float64[Array, " k"]:
    return 1 - ratio(sums[:, 10], sums[:, 8])
