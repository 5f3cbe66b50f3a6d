"""How many features a run needs, before it is paid for.

Normal theory of a paired mean difference: with standard deviation `sd` of scores between features, correlation `rho` of
the two runs' scores over features, difference d to be seen at level alpha (two-sided) with probability `power`,

    n = (z_{1 - alpha/2} + z_power)^2  2 sd^2 (1 - rho) / d^2

(J. Cohen, Statistical Power Analysis, 1988, chapter 2). rho 0 is what two runs on different features need, each. The
normal quantiles make n a little too small below about 20 features.
"""

import math
from statistics import NormalDist

from sae_auto_interp.errors import InputError
from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL, normal_quantile

TYPICAL_SD = (0.86 - 0.67) / 1.349
"""Standard deviation of balanced accuracy between features: .141, from the quartiles .67 and .86 (arXiv 2410.13928) as
if normal."""


def features_needed(
    difference: float, sd: float = TYPICAL_SD, correlation: float = 0.0, power: float = 0.8, alpha: float = 0.05
) -> int:
    """Features, at least 2, on which a mean difference of `difference` is found with probability `power`."""
    if difference == 0:
        raise InputError("difference 0 would need endlessly many features; give the smallest one that matters")
    z = _quantiles(power, alpha)
    return _at_least_two((z * _sd_of_difference(sd, correlation) / difference) ** 2)


def power_of(
    n_features: int, difference: float, sd: float = TYPICAL_SD, correlation: float = 0.0, alpha: float = 0.05
) -> float:
    """Probability to find a mean difference of `difference`, in either direction."""
    z = normal_quantile(1 - _probability("alpha", alpha))
    shift = abs(difference) / (_sd_of_difference(sd, correlation) / _root(n_features))
    return NormalDist().cdf(shift - z) + NormalDist().cdf(-shift - z)


def smallest_difference(
    n_features: int, sd: float = TYPICAL_SD, correlation: float = 0.0, power: float = 0.8, alpha: float = 0.05
) -> float:
    """The mean difference that `n_features` find with probability `power`."""
    return _quantiles(power, alpha) * _sd_of_difference(sd, correlation) / _root(n_features)


def half_width(n_features: int, sd: float = TYPICAL_SD, level: float = DEFAULT_LEVEL) -> float:
    """Half of the interval of a mean over features: z sd / sqrt(n)."""
    return normal_quantile(_probability("level", level)) * _positive("sd", sd) / _root(n_features)


def features_for_half_width(width: float, sd: float = TYPICAL_SD, level: float = DEFAULT_LEVEL) -> int:
    """Features whose mean has an interval of at most +-`width`."""
    z = normal_quantile(_probability("level", level))
    return _at_least_two((z * _positive("sd", sd) / _positive("half width", width)) ** 2)


def _quantiles(power: float, alpha: float) -> float:
    z = normal_quantile(1 - _probability("alpha", alpha)) + NormalDist().inv_cdf(_probability("power", power))
    if power <= alpha:
        raise InputError(f"power {power} is reached by chance at level {alpha}; give a power above alpha")
    return z


def _sd_of_difference(sd: float, correlation: float) -> float:
    if not -1 <= correlation < 1:
        raise InputError(f"correlation {correlation} is impossible; give one from -1 to below 1")
    return _positive("sd", sd) * math.sqrt(2 * (1 - correlation))


def _root(n_features: int) -> float:
    return math.sqrt(_positive("number of features", n_features))


def _at_least_two(n: float) -> int:
    """Rounded up; a whole number that rounding errors lifted by a hair stays."""
    return max(2, math.ceil(n - 1e-9))


def _probability(name: str, value: float) -> float:
    if not 0 < value < 1:
        raise InputError(f"{name} {value} is no probability; give one between 0 and 1")
    return value


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise InputError(f"{name} {value} is impossible; give one above 0")
    return value
