"""The bootstrap: resample what was sampled (features, documents), recompute, and look at the spread.

In: a statistic that takes weights, so that one routine serves every metric: row r of the weights says how often
each unit was drawn in resample r. Units are the things that were drawn independently: features for a run, documents
for a feature. Trials of one document share its topic and style and are no independent evidence.

Percentile: B. Efron, Annals of Statistics 7 (1979) 1. BCa (bias-corrected and accelerated): B. Efron, JASA 82 (1987)
171; with strata the acceleration sums over them (A. C. Davison and D. V. Hinkley, Bootstrap Methods, 1997, chapter 5).

Where every resample gives the same value (a perfect judge) a bootstrap interval would be a point, which claims a
certainty that is not there: then there is a value and no interval, with the reason.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float64, Int64

from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL, Interval
from sae_auto_interp.types import Array, Estimate

Statistic: TypeAlias = Callable[[Array], Array]
"""Weights [k, n_units] -> values [k]; NaN where the metric is undefined for those weights."""
BootstrapMethod: TypeAlias = Literal["percentile", "bca"]
DEFAULT_RESAMPLES = 10_000
MAX_UNDEFINED_FRACTION = 0.05
"""Largest share of undefined resamples; beyond it the interval would describe only the lucky ones."""
_DRAWS_PER_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """What is resampled, and how the interval is read off."""

    n_units: int
    unit: str
    """Plural, for messages and the method's name, e.g. `documents`."""
    strata: Array | None = None
    """A label per unit; each label keeps its number of units in every resample."""
    level: float = DEFAULT_LEVEL
    n_resamples: int = DEFAULT_RESAMPLES
    method: BootstrapMethod = "percentile"

    @property
    def name(self) -> str:
        kind = "BCa" if self.method == "bca" else "percentile"
        return f"{kind} bootstrap over {self.unit}" + (", stratified" if self.strata is not None else "")


def bootstrap_estimate(
    statistic: Statistic, resampling: Resampling, rng: np.random.Generator, *, n: int, n_failed: int, undefined: str
) -> Estimate:
    """The statistic of all units, with its interval; `undefined` is the reason when it is NaN.

    One unit, one distinct value, or too many undefined resamples: a value without an interval, and why.
    """
    level, name = resampling.level, resampling.name
    if resampling.n_units == 0:
        return Estimate(None, None, None, level, name, n, n_failed, undefined)
    value = float(statistic(np.ones((1, resampling.n_units)))[0])
    if not np.isfinite(value):
        return Estimate(None, None, None, level, name, n, n_failed, undefined)
    interval = _interval(statistic, value, resampling, rng)
    if isinstance(interval, str):
        return Estimate(value, None, None, level, name, n, n_failed, interval)
    return Estimate(value, interval.low, interval.high, level, name, n, n_failed)


def _interval(statistic: Statistic, value: float, resampling: Resampling, rng: np.random.Generator) -> Interval | str:
    """The interval, or the reason why there is none."""
    if resampling.n_units < 2:
        return f"no interval: one of the {resampling.unit} is not enough to resample"
    draws = resampled_values(statistic, resampling, rng)
    draws = draws[np.isfinite(draws)]
    n_undefined = resampling.n_resamples - len(draws)
    if n_undefined > MAX_UNDEFINED_FRACTION * resampling.n_resamples:
        return f"no interval: undefined in {n_undefined} of {resampling.n_resamples} resamples of {resampling.unit}"
    if np.ptp(draws) <= 1e-12 * max(1.0, abs(value)):
        return f"no interval: every resample of {resampling.unit} gives the same value"
    if resampling.method == "bca":
        return bca_interval(draws, value, jackknife_influence(statistic, resampling), resampling.level)
    return percentile_interval(draws, resampling.level)


def resampled_values(
    statistic: Statistic, resampling: Resampling, rng: np.random.Generator
) -> Float64[Array, " n_resamples *metrics"]:
    """The statistic of each resample, NaN where undefined; several at once where it gives a row per resample."""
    return np.concatenate([statistic(counts) for counts in _resampled_counts(resampling, rng)])


def _resampled_counts(resampling: Resampling, rng: np.random.Generator) -> Iterator[Float64[Array, "k n_units"]]:
    """How often each unit is drawn, in chunks that bound the memory."""
    n, labels = resampling.n_units, _labels(resampling)
    members = [np.flatnonzero(labels == label) for label in range(int(labels.max()) + 1)]
    step = max(1, _DRAWS_PER_CHUNK // n)
    for start in range(0, resampling.n_resamples, step):
        k = min(step, resampling.n_resamples - start)
        counts = np.empty((k, n))
        for units in members:
            counts[:, units] = _counts(k, len(units), rng)
        yield counts


def _counts(k: int, n: int, rng: np.random.Generator) -> Int64[Array, "k n"]:
    rows = rng.integers(0, n, size=(k, n), dtype=np.int32)
    flat = np.bincount((rows + n * np.arange(k)[:, None]).ravel(), minlength=k * n)
    return flat.reshape(k, n)


def jackknife_influence(statistic: Statistic, resampling: Resampling) -> Float64[Array, " n_units"]:
    """How far leaving a unit out moves the value, per unit of its stratum; 0 where that leaves nothing defined."""
    n, labels = resampling.n_units, _labels(resampling)
    without = np.concatenate([statistic(_all_but(units, n)) for units in np.array_split(np.arange(n), -(-n // 256))])
    influence = np.zeros(n)
    for label in np.unique(labels):
        units = np.flatnonzero((labels == label) & np.isfinite(without))
        if len(units) > 1:
            influence[units] = (without[units].mean() - without[units]) * (len(units) - 1) / len(units)
    return influence


def _labels(resampling: Resampling) -> Int64[Array, " n_units"]:
    """Strata as 0, 1, ...; all 0 where there are none."""
    if resampling.strata is None:
        return np.zeros(resampling.n_units, dtype=np.int64)
    return np.unique(resampling.strata, return_inverse=True)[1].astype(np.int64)


def _all_but(units: Int64[Array, " k"], n: int) -> Float64[Array, "k n"]:
    """Weights that leave out one unit each."""
    weights = np.ones((len(units), n))
    weights[np.arange(len(units)), units] = 0.0
    return weights


def percentile_interval(draws: Float64[Array, " n_resamples"], level: float) -> Interval:
    """The central `level` of the draws."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def bca_interval(
    draws: Float64[Array, " n_resamples"], value: float, influence: Float64[Array, " n_units"], level: float
) -> Interval:
    """Quantiles of the draws, shifted for bias (z0) and for a spread that changes with the value (a).

    z0 = Phi^-1(share of draws below the value, ties one half);
    a = sum(l^3) / (6 sum(l^2)^1.5) over jackknife influences l.
    """
    normal = NormalDist()
    tied = np.abs(draws - value) <= 1e-12 * max(1.0, abs(value))
    share = float(((draws < value) & ~tied).mean() + tied.mean() / 2)
    z0 = normal.inv_cdf(min(max(share, 1 / (2 * len(draws))), 1 - 1 / (2 * len(draws))))
    squares = float((influence**2).sum())
    acceleration = float((influence**3).sum()) / (6 * squares**1.5) if squares > 0 else 0.0

    def adjusted(probability: float) -> float:
        z = z0 + normal.inv_cdf(probability)
        return normal.cdf(z0 + z / max(1 - acceleration * z, 1e-6))

    low, high = np.quantile(draws, [adjusted((1 - level) / 2), adjusted((1 + level) / 2)])
    return Interval(float(low), float(high))


def bootstrap_mean(
    values: Float64[Array, " n"],
    rng: np.random.Generator,
    level: float = DEFAULT_LEVEL,
    n_resamples: int = 10_000,
) -> Interval:
    """Percentile interval of the mean under resampling of the values; needs at least two.

    With fewer than about 20 values a percentile interval is somewhat too narrow (it ignores the n/(n-1) and
    Student corrections); the reports print n beside it.
    """
    return percentile_interval(resampled_means(values[:, None], rng, n_resamples)[:, 0], level)


def resampled_means(
    columns: Float64[Array, "n k"], rng: np.random.Generator, n_resamples: int
) -> Float64[Array, "n_resamples k"]:
    """Column means of resampled rows. Rows stay whole, so paired columns stay paired.

    Memory is bounded by chunks; the draws do not depend on the size of a chunk.
    """
    n, n_columns = columns.shape
    assert n >= 2, f"a bootstrap needs at least two values, got {n}"
    means = np.empty((n_resamples, n_columns))
    step = max(1, _DRAWS_PER_CHUNK // n)
    for start in range(0, n_resamples, step):
        stop = min(start + step, n_resamples)
        rows = rng.integers(0, n, size=(stop - start, n))
        for column in range(n_columns):
            means[start:stop, column] = columns[rows, column].mean(axis=1)
    return means
