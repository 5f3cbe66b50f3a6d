"""The predictions that failed windows could have had, at the two extremes of the correlation.

In: a simulation score with failed windows. Out: the score with predictions in their place, one per token, that make
the pooled correlation as low, or as high, as any predictions between the ends of the scale can.

The scale: from 0, or the lowest prediction below it, to the largest prediction or true activation of the score. That is
what the judge's levels 0 to 10 come to: a score holds activations, not levels. The extreme: exchanging two predictions
p_i > p_j with y_i > y_j lowers the sum of y p and leaves the spread of p, so the worst predictions fall with the truth.
Where the correlation stays positive they lie at the ends of the scale (a positive linear function over a
norm is quasi-concave): a step, found by trying each. Where it gets negative a stationary p is a clipped line,

    p_t = clip(mean p + (var p / cov(y, p)) (y_t - mean y))

reached by iterating from the step. The best predictions are the worst ones for -y. C. F. Manski (2007), chapter 2,
for the bounds; a random search over predictions finds nothing beyond them (tests/metrics/test_sensitivity.py).
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from sae_auto_interp.metrics.rates import ratio
from sae_auto_interp.types import Array, Score, SimulationTrial

_MAX_STEPS = 200


def with_extreme_predictions(score: Score, *, is_right: bool) -> Score:
    """`score` with no failed window left: predicted as badly as possible, or as well."""
    failed = [_has_failed(trial) for trial in score.simulations]
    if not any(failed):
        return score
    known = [trial for trial in score.simulations if not _has_failed(trial)]
    own_true = _joined([trial.true for trial in known])
    own_predicted = _joined([trial.predicted or () for trial in known])
    free_true = _joined([t.true for t, is_free in zip(score.simulations, failed, strict=True) if is_free])
    low = min(0.0, own_predicted.min(initial=0.0))
    high = max(own_predicted.max(initial=0.0), own_true.max(initial=0.0), free_true.max(initial=0.0))
    sign = -1.0 if is_right else 1.0
    worst = worst_predictions(sign * own_true, own_predicted, sign * free_true, low, high)
    return replace(score, simulations=tuple(_settled(score.simulations, iter(worst.tolist()))))


def worst_predictions(
    true: Float64[Array, " n"],
    predicted: Float64[Array, " n"],
    free_true: Float64[Array, " m"],
    low: float,
    high: float,
) -> Float64[Array, " m"]:
    """Predictions within [low, high] for `free_true` that make the correlation over all n + m tokens least."""
    y = np.concatenate([true, free_true])
    best = _step(true, predicted, free_true, low, high)
    p = np.concatenate([predicted, best])
    lowest = _correlation(y, p)
    for _ in range(_MAX_STEPS):
        if not lowest < 0:
            break
        slope = p.var() / ((y - y.mean()) * (p - p.mean())).mean()
        tried = np.clip(p.mean() + slope * (free_true - y.mean()), low, high)
        p = np.concatenate([predicted, tried])
        found = _correlation(y, p)
        if not found < lowest - 1e-12:
            break
        best, lowest = tried, found
    return best


def _step(
    true: Float64[Array, " n"],
    predicted: Float64[Array, " n"],
    free_true: Float64[Array, " m"],
    low: float,
    high: float,
) -> Float64[Array, " m"]:
    """`low` for the k largest truths and `high` for the others, with the k of the least correlation."""
    order = np.argsort(-free_true, kind="stable")
    y_mean = np.concatenate([true, free_true]).mean()
    n, m = len(true) + len(free_true), len(free_true)
    k = np.arange(m + 1)
    reached = np.concatenate([[0.0], np.cumsum(free_true[order] - y_mean)])
    covariance = ((true - y_mean) * predicted).sum() + low * reached + high * (reached[-1] - reached)
    total = predicted.sum() + low * k + high * (m - k)
    squares = (predicted**2).sum() + low**2 * k + high**2 * (m - k)
    spread = squares - total**2 / n
    is_defined = spread > 1e-12 * np.maximum(squares, 1e-300)
    values = np.where(is_defined, ratio(covariance, np.sqrt(np.where(is_defined, spread, 0.0))), np.inf)
    chosen = np.full(m, high)
    chosen[order[: int(values.argmin())]] = low
    return chosen


def _correlation(y: Float64[Array, " n"], p: Float64[Array, " n"]) -> float:
    """Infinite where one of the two is constant: never the least."""
    spread = y.std() * p.std()
    return float(((y - y.mean()) * (p - p.mean())).mean() / spread) if spread > 1e-12 else np.inf


def _settled(trials: tuple[SimulationTrial, ...], values: Iterator[float]) -> Iterator[SimulationTrial]:
    for trial in trials:
        if _has_failed(trial):
            yield replace(trial, predicted=tuple(next(values) for _ in trial.true), failure=None)
        else:
            yield trial


def _has_failed(trial: SimulationTrial) -> bool:
    return trial.failure is not None or trial.predicted is None


def _joined(windows: list[tuple[float, ...]]) -> Float64[Array, " n_tokens"]:
    return np.array([value for window in windows for value in window], dtype=np.float64)
