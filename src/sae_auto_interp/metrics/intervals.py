"""Confidence intervals for proportions, for two proportions combined, and for means over features.

In: counts, intervals, or one value per feature. Out: an `Interval`.

Wilson: E. B. Wilson, JASA 22 (1927) 209. Square-and-add (MOVER; for a curved combination PropImp):
R. G. Newcombe, Statistics in Medicine 17 (1998) 873 and Communications in Statistics 40 (2011) 3154.
Percentile bootstrap: B. Efron, Annals of Statistics 7 (1979) 1.

All but the bootstrap are closed forms that stay within the range of the quantity and have a width even at
0 and 1, where the textbook `p +- z SE` collapses to a point: small test sets often score exactly 1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float64

from sae_auto_interp.types import Array

DEFAULT_LEVEL = 0.95
_DRAWS_PER_CHUNK = 1 << 20
_N_ANGLES = 181


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float


def normal_quantile(level: float) -> float:
    """z such that a standard normal lies within +-z with probability `level`."""
    assert 0.0 < level < 1.0, level
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson(successes: int, n: int, level: float = DEFAULT_LEVEL) -> Interval:
    """Score interval of a binomial proportion; [0, 1] when n is 0, because then nothing is known."""
    assert 0 <= successes <= n, (successes, n)
    if n == 0:
        return Interval(0.0, 1.0)
    z = normal_quantile(level)
    centre = (successes + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(successes * (n - successes) / n + z * z / 4)
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(low, high)


def mover_mean_of_two(first: float, first_interval: Interval, second: float, second_interval: Interval) -> Interval:
    """Interval of the mean of two independent quantities, e.g. of (TPR + TNR) / 2 from two Wilson intervals."""
    middle = (first + second) / 2
    below = math.hypot(first - first_interval.low, second - second_interval.low) / 2
    above = math.hypot(first_interval.high - first, second_interval.high - second) / 2
    return Interval(middle - below, middle + above)


def square_and_add(
    combine: Callable[[Array, Array], Array],
    first: float,
    first_interval: Interval,
    second: float,
    second_interval: Interval,
) -> Interval:
    """Interval of `combine(first, second)`, increasing in both, each known independently with an interval.

    Walks the quarter ellipse between (first.low, second) and (first, second.low) and takes the least value on
    it, and the same above. For a linear `combine` this equals `mover_mean_of_two`.
    """
    angle = np.linspace(0.0, math.pi / 2, _N_ANGLES)
    cosine, sine = np.cos(angle), np.sin(angle)
    below = combine(
        first - (first - first_interval.low) * cosine,
        second - (second - second_interval.low) * sine,
    )
    above = combine(
        first + (first_interval.high - first) * cosine,
        second + (second_interval.high - second) * sine,
    )
    return Interval(float(below.min()), float(above.max()))


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


def percentile_interval(draws: Float64[Array, " n_resamples"], level: float) -> Interval:
    """The central `level` of the draws."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


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
