"""Which windows show nearly the same text: those that share a run of tokens somewhere else in the corpus too.

Copied text (licences, headers, generated code) seldom falls on the same place of the window grid twice, so comparing
whole windows finds few of its copies. Here two windows are near-duplicates when they share a run of at least `length`
tokens, at whatever offsets; with a run as long as the window that means equal. Every run of the corpus is hashed once;
those that occur at more than one place get a number, and windows are compared by these numbers (Lee et al. 2022, arXiv
2107.06499, remove repeated runs of training text by the same rule). Two different runs whose 64-bit hashes agree, of
which there will hardly be any, count as equal.
"""

import numpy as np
from jaxtyping import Bool, Int, Int32, Int64, UInt64

from sae_auto_interp.types import Array

BLOCK_WINDOWS = 1 << 14
"""Runs hashed at a time: a few MiB."""
LEAST_RUN = 12
"""Tokens below which a shared run says little: the same few words stand in texts that have nothing in common."""
FOUND_ONCE = -1


def default_run(window: int) -> int:
    """Half a window, but not so short that unrelated texts share it."""
    return min(window, max(window // 2, LEAST_RUN))


def repeated_runs(tokens: Int32[Array, " n_tokens"], length: int) -> Int32[Array, " n_runs"]:
    """For each run of `length` tokens a number that equal runs share; FOUND_ONCE where there is no other."""
    hashes = token_hashes(np.lib.stride_tricks.sliding_window_view(tokens, length))
    ordered = np.sort(hashes)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if len(repeated) == 0:
        return np.full(len(hashes), FOUND_ONCE, dtype=np.int32)
    numbers = np.searchsorted(repeated, hashes).clip(max=len(repeated) - 1)
    return np.where(repeated[numbers] == hashes, numbers, FOUND_ONCE).astype(np.int32)


def without_near_duplicates(runs: Int[Array, "n k"]) -> Bool[Array, " n"]:
    """Which windows to keep, the earlier ones first: each that shares no run with one kept before it.

    `runs` are the numbers of each window's runs. In every round those are kept that come first wherever one of their
    runs occurs, and what shares a run with them goes; there are about as many rounds as the longest chain of such
    windows.
    """
    is_kept = np.ones(len(runs), dtype=np.bool_)
    window, place = np.nonzero(runs != FOUND_ONCE)
    run = runs[window, place]
    order = np.lexsort((window, run))
    run, window = run[order], window[order]
    while len(run):
        first = window[_begins_of_equal(run)]
        is_later = window != first
        is_open = np.zeros(len(runs), dtype=np.bool_)
        is_open[window[is_later]] = True
        goes = window[is_later & ~is_open[first]]
        is_kept[goes] = False
        is_open[goes] = False
        left = is_open[window]
        run, window = run[left], window[left]
    return is_kept


def token_hashes(tokens: Int32[Array, "n window"]) -> UInt64[Array, " n"]:
    """Sum of token times a random 64-bit number for its position, modulo 2^64 (multilinear hashing).

    Two windows that differ in tokens below 2^18 agree by chance with probability 2^-46 at most (Carter and Wegman
    1979).
    """
    factors = np.frombuffer(np.random.default_rng(0).bytes(8 * tokens.shape[1]), dtype=np.uint64)
    hashes = np.empty(len(tokens), dtype=np.uint64)
    for begin in range(0, len(tokens), BLOCK_WINDOWS):
        block = slice(begin, begin + BLOCK_WINDOWS)
        np.matmul(tokens[block].astype(np.uint64), factors, out=hashes[block])
    return hashes


def _begins_of_equal(values: Int[Array, " n"]) -> Int64[Array, " n"]:
    """For each of some sorted values, where the stretch of those equal to it begins."""
    begins = np.arange(len(values))
    begins[1:][values[1:] == values[:-1]] = 0
    return np.maximum.accumulate(begins)
