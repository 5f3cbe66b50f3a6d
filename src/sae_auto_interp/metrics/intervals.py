"""Confidence intervals in closed form: for a proportion, and for two independent proportions combined.

In: counts, or intervals. Out: an `Interval`.

Wilson: E. B. Wilson, JASA 22 (1927) 209. Clopper-Pearson: C. J. Clopper and E. S. Pearson, Biometrika 26 (1934) 404.
Square-and-add (MOVER; for a curved combination PropImp): R. G. Newcombe, Statistics in Medicine 17 (1998) 873 and
Communications in Statistics 40 (2011) 3154.

They stay within the range of the quantity and have a width even at 0 and 1, where the textbook `p +- z SE`
collapses to a point: small test sets often score exactly 1. They treat trials as independent; where several come
from one document, `by_document` resamples documents.

How often a feature fires, with an interval.

Activations come in bunches: a feature that fires once in a window often fires again. So the interval is that of the
share of windows in which it fires (Wilson), scaled to tokens by the activations per active window: windows, not tokens,
count as independent. For a feature that never fires, the high end is that of the windows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy import special

from sae_auto_interp.types import Array, Estimate, FeatureStats

DEFAULT_LEVEL = 0.95


_N_ANGLES = 181


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float


def normal_quantile(level: float) -> float:
    """z such that a standard normal lies within +-z with probability `level`."""
    assert 0.0 < level < 1.0, level
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson(successes: float, n: float, level: float = DEFAULT_LEVEL) -> Interval:
    """Score interval of a binomial proportion; [0, 1] when n is 0, because then nothing is known.

    Counts may be fractions: of trials that count less than one each, because they resemble others.
    """
    assert 0 <= successes <= n, (successes, n)
    if n == 0:
        return Interval(0.0, 1.0)
    z = normal_quantile(level)
    centre = (successes + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(successes * (n - successes) / n + z * z / 4)
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(low, high)


def clopper_pearson(successes: float, n: float, level: float = DEFAULT_LEVEL) -> Interval:
    """Exact interval of a binomial proportion: covers with at least `level`, usually more; [0, 1] when n is 0.

    For bounds that must hold, e.g. on a false positive rate near 0. At 0 successes the high end is
    1 - ((1 - level) / 2)^(1/n).
    """
    assert 0 <= successes <= n, (successes, n)
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(special.betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(special.betaincinv(successes + 1, n - successes, 1 - tail))
    return Interval(low, high)


def upper_bound(successes: int, n: int, level: float = DEFAULT_LEVEL) -> float:
    """One-sided Clopper-Pearson bound: the proportion is no higher, with at least `level`; 1 when n is 0.

    At 0 successes it is 1 - (1 - level)^(1/n), about 3/n at 95 %: 0.058 for 0 of 50, 0.003 for 0 of 1000.
    """
    return clopper_pearson(successes, n, 2 * level - 1).high if level > 0.5 else 1.0


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


def measured_density(stats: FeatureStats, level: float = DEFAULT_LEVEL) -> Estimate:
    """Share of text tokens on which the feature fires; `n` counts the windows that the interval rests on."""
    method = "Wilson over windows, scaled to tokens"
    if stats.n_tokens == 0:
        return Estimate(None, None, None, level, method, 0, 0, "no text token was seen")
    if stats.n_windows == 0:
        return Estimate(stats.density, None, None, level, method, 0, 0, "no interval: windows were not counted")
    share = stats.n_active_windows / stats.n_windows
    interval = wilson(stats.n_active_windows, stats.n_windows, level)
    scale = stats.density / share if share else 1.0
    return Estimate(
        stats.density, scale * interval.low, min(1.0, scale * interval.high), level, method, stats.n_windows, 0
    )
