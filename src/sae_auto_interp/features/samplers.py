"""Which of a feature's active windows become examples.

Windows come sorted by maximum, highest first. A quantile is an equal-count bin of them (0 is the highest), as in
delphi; Neuronpedia's equal-width activation intervals are something else.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.features.config import Sampling
from sae_auto_interp.types import Array

TOP_FRACTION = 5
"""`mix` takes one in this many examples from the very top."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Indices into the sorted windows, ascending (so highest maximum first), and the quantile of each."""

    indices: Int64[Array, " n"]
    quantiles: Int64[Array, " n"]


def sample_windows(n_windows: int, n: int, n_quantiles: int, sampling: Sampling, rng: np.random.Generator) -> Sample:
    """Choose `n` of `n_windows` sorted windows (all of them when there are fewer).

    `top` takes the first; `random` takes any; `quantile` takes equally many of each quantile, and raises `ConfigError`
    when `n` is less than their number; `mix` takes a fifth from the top and spreads the rest over the others.
    """
    if sampling == "quantile" and n < n_quantiles:
        message = f"{n} examples cannot cover {n_quantiles} quantiles; ask for more examples or fewer quantiles"
        raise ConfigError(message)
    if n_windows <= n:
        chosen = np.arange(n_windows)
    elif sampling == "top":
        chosen = np.arange(n)
    elif sampling == "random":
        chosen = rng.choice(n_windows, n, replace=False)
    elif sampling == "quantile":
        chosen = _spread(np.arange(n_windows), n, n_quantiles, rng)
    else:
        n_top = n // TOP_FRACTION
        rest = _spread(np.arange(n_top, n_windows), n - n_top, n_quantiles, rng)
        chosen = np.concatenate([np.arange(n_top), rest])
    chosen = np.sort(chosen).astype(np.int64)
    return Sample(chosen, quantile_of(chosen, n_windows, n_quantiles))


def quantile_of(indices: Int64[Array, " n"], n_windows: int, n_quantiles: int) -> Int64[Array, " n"]:
    """The equal-count bin that each of the sorted windows lies in; sizes differ by at most one."""
    return np.searchsorted(_bin_ends(n_windows, n_quantiles), indices, side="right").astype(np.int64)


def _spread(candidates: Int64[Array, " m"], n: int, n_quantiles: int, rng: np.random.Generator) -> Int64[Array, " n"]:
    """`n` of the candidates, equally many from each of `n_quantiles` bins (of `n` bins when that is fewer)."""
    n_bins = min(n_quantiles, n)
    ends = _bin_ends(len(candidates), n_bins)
    sizes = np.diff(ends, prepend=0)
    shuffled = candidates[np.argsort(np.repeat(np.arange(n_bins), sizes) + rng.random(len(candidates)))]  # in each bin
    quotas = np.minimum(np.diff(_bin_ends(n, n_bins), prepend=0), sizes)
    chosen = shuffled[np.repeat(ends - sizes - np.cumsum(quotas) + quotas, quotas) + np.arange(quotas.sum())]
    missing = n - len(chosen)
    if missing > 0:  # a bin smaller than its quota: the others make up for it
        chosen = np.concatenate([chosen, rng.choice(np.setdiff1d(candidates, chosen), missing, replace=False)])
    return chosen


def _bin_ends(n: int, n_bins: int) -> Int64[Array, " n_bins"]:
    """Where each of the bins of n things ends; the first ones take the remainder."""
    size, remainder = divmod(n, n_bins)
    bins = np.arange(1, n_bins + 1)
    return bins * size + np.minimum(bins, remainder)
