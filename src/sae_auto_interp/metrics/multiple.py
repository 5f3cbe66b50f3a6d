"""Many p-values at once: which to believe.

In: p-values. Out: adjusted p-values in the same order, to be compared with the level (Holm) or with the rate of false
discoveries q (Benjamini-Hochberg).

Holm for a handful of comparisons, where one false claim is too many: S. Holm, Scandinavian Journal of Statistics 6
(1979) 65; valid under any dependence. Benjamini-Hochberg for one test per feature, where a share q of false ones is
accepted: Y. Benjamini and Y. Hochberg, JRSS B 57 (1995) 289; valid for independent or positively dependent tests.
"""

import numpy as np
from jaxtyping import Float64

from sae_auto_interp.errors import InputError
from sae_auto_interp.types import Array


def holm(p_values: Float64[Array, " n"]) -> Float64[Array, " n"]:
    """Adjusted p-values: with rank i of n (from 1), max over ranks up to i of (n - i + 1) p, at most 1."""
    ordered, order = _ordered(p_values)
    factors = len(ordered) - np.arange(len(ordered))
    return _restored(np.minimum(np.maximum.accumulate(factors * ordered), 1.0), order)


def benjamini_hochberg(p_values: Float64[Array, " n"]) -> Float64[Array, " n"]:
    """Adjusted p-values (q-values): with rank i of n, min over ranks from i on of n p / i."""
    ordered, order = _ordered(p_values)
    scaled = ordered * len(ordered) / np.arange(1, len(ordered) + 1)
    return _restored(np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0), order)


def _ordered(p_values: Float64[Array, " n"]) -> tuple[Array, Array]:
    is_p = (p_values >= 0) & (p_values <= 1)
    if not is_p.all():
        raise InputError(f"{p_values[~is_p][0]} is no p-value; leave out what is undefined and give values from 0 to 1")
    order = np.argsort(p_values, kind="stable")
    return p_values[order], order


def _restored(adjusted: Array, order: Array) -> Float64[Array, " n"]:
    result = np.empty(len(order))
    result[order] = adjusted
    return result
