"""Which of a feature's active windows become examples.

Windows come as their maxima, highest first. A quantile is an equal-count bin of them (0 is the highest), as in delphi.
An interval is one of equally wide ranges of activation between zero and the highest maximum, as in Bricken et al. 2023
and on Neuronpedia: the upper ones hold few windows, so all strengths are seen. Importance sampling draws with
probability proportional to the squared maximum, as SAEBench does. Whatever the sampling, an example is labelled with
its quantile.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

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


def sample_windows(
    maxima: Float32[Array, " n_windows"], n: int, n_quantiles: int, sampling: Sampling, rng: np.random.Generator
) -> Sample:
    """Choose `n` windows, given their maxima, which are sorted (all of them when there are fewer).

    `top` takes the first; `random` takes any; `quantile` takes equally many of each quantile, and raises `ConfigError`
    when `n` is less than their number; `mix` takes a fifth from the top and spreads the rest over the others;
    `interval` takes equally many of each of `n_quantiles` equally wide intervals, and where one has too few the others
    make up for it; `importance` draws without replacement, each time in proportion to the squared maximum.
    """
    if sampling == "quantile" and n < n_quantiles:
        message = f"{n} examples cannot cover {n_quantiles} quantiles; ask for more examples or fewer quantiles"
        raise ConfigError(message)
    n_windows = len(maxima)
    chosen = np.arange(n_windows) if n_windows <= n else _chosen(maxima, n, n_quantiles, sampling, rng)
    chosen = np.sort(chosen).astype(np.int64)
    return Sample(chosen, quantile_of(chosen, n_windows, n_quantiles))


def quantile_of(indices: Int64[Array, " n"], n_windows: int, n_quantiles: int) -> Int64[Array, " n"]:
    """The equal-count bin that each of the sorted windows lies in; sizes differ by at most one."""
    ends = _even_sizes(n_windows, n_quantiles).cumsum()
    return ends.searchsorted(indices, side="right")


def quantile_edges(maxima: Float32[Array, " n_windows"], n_quantiles: int) -> tuple[float, ...]:
    """The highest of the sorted maxima, that with which each further quantile begins, and the lowest."""
    ends = _even_sizes(len(maxima), n_quantiles).cumsum()
    last = len(maxima) - 1
    return tuple(maxima[[0, *ends[:-1].clip(max=last).tolist(), last]].tolist())


def interval_sizes(maxima: Float32[Array, " n_windows"], n_intervals: int) -> Int64[Array, " n_intervals"]:
    """How many of the sorted windows lie in each of the equally wide intervals of activation, the highest first.

    Of m intervals up to the maximum A, the i-th holds the windows above A (1 - i / m) and not above A (1 - (i - 1) /
    m).
    """
    lower: Float64[Array, " n_intervals"] = maxima[0] * (1 - np.arange(1, n_intervals + 1) / n_intervals)
    ends: Int64[Array, " n_intervals"] = np.searchsorted(-maxima.astype(np.float64), -lower, side="left")
    return np.diff(ends, prepend=0)


def _chosen(
    maxima: Float32[Array, " n_windows"], n: int, n_quantiles: int, sampling: Sampling, rng: np.random.Generator
) -> Int64[Array, " n"]:
    """`n` of more windows than that."""
    n_windows = len(maxima)
    if sampling == "top":
        return np.arange(n)
    if sampling == "random":
        return rng.choice(n_windows, n, replace=False)
    if sampling == "importance":
        waiting = rng.exponential(size=n_windows) / maxima.astype(np.float64) ** 2  # Efraimidis and Spirakis 2006
        return np.argsort(waiting, kind="stable")[:n]
    if sampling == "quantile":
        return _spread(_even_sizes(n_windows, n_quantiles), n, rng)
    if sampling == "interval":
        return _spread(interval_sizes(maxima, min(n_quantiles, n)), n, rng)
    n_top = n // TOP_FRACTION
    n_rest = n - n_top
    rest = _spread(_even_sizes(n_windows - n_top, min(n_quantiles, n_rest)), n_rest, rng)
    return np.concatenate([np.arange(n_top), n_top + rest])


def _spread(sizes: Int64[Array, " n_bins"], n: int, rng: np.random.Generator) -> Int64[Array, " n"]:
    """`n` indices, equally many from each of some bins, which follow each other."""
    in_bins = np.repeat(np.arange(len(sizes)), sizes)
    shuffled = np.argsort(in_bins + rng.random(len(in_bins)))  # within each bin
    quotas = _quotas(sizes, n)
    skipped = sizes.cumsum() - sizes - quotas.cumsum() + quotas
    return shuffled[np.repeat(skipped, quotas) + np.arange(n)]


def _quotas(sizes: Int64[Array, " n_bins"], n: int) -> Int64[Array, " n_bins"]:
    """How many of each bin, `n` in all and as even as their sizes allow; the first ones take the remainder."""
    quotas = np.minimum(_even_sizes(n, len(sizes)), sizes)
    while (missing := n - int(quotas.sum())) > 0:
        room = np.flatnonzero(quotas < sizes)
        quotas[room] = np.minimum(quotas[room] + _even_sizes(missing, len(room)), sizes[room])
    return quotas


def _even_sizes(n: int, n_bins: int) -> Int64[Array, " n_bins"]:
    """Sizes of the bins of n things; the first ones take the remainder."""
    size, remainder = divmod(n, n_bins)
    sizes = np.full(n_bins, size, dtype=np.int64)
    sizes[:remainder] += 1
    return sizes
