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

BLOCK_RUNS = 1 << 14
"""Hashed at a time: 128 KiB, which stay in the processor's cache."""
BASE = 0xD1342543DE82EF95
"""Odd; its powers differ in many bits."""
_BEGINNING = np.uint64(44)
"""Bits of a hash after its first twenty."""
LEAST_RUN = 12
"""Tokens below which a shared run says little: the same few words stand in texts that have nothing in common."""
FOUND_ONCE = -1


def default_run(window: int) -> int:
    """Half a window, but not so short that unrelated texts share it."""
    return min(window, max(window // 2, LEAST_RUN))


def repeated_runs(tokens: Int32[Array, " n_tokens"], length: int) -> Int32[Array, " n_runs"]:
    """For each run of `length` tokens a number that equal runs share; FOUND_ONCE where there is no other."""
    hashes = run_hashes(tokens, length)
    repeated = _found_again(np.sort(hashes))
    found = np.full(len(hashes), FOUND_ONCE, dtype=np.int32)
    likely = np.flatnonzero(_beginnings(repeated)[hashes >> _BEGINNING])
    numbers = np.searchsorted(repeated, hashes[likely])
    is_repeated = repeated.take(numbers, mode="clip") == hashes[likely]
    found[likely[is_repeated]] = numbers[is_repeated]
    return found


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


def run_hashes(tokens: Int32[Array, " n_tokens"], length: int) -> UInt64[Array, " n_runs"]:
    """Polynomial hashes modulo 2^64 of all runs of `length` tokens (Karp and Rabin 1987), whatever the length at the
    cost of one: differences of running sums, divided by the power of the base at which the run begins.

    The base is odd, so that there is a quotient. Each token stands for a number that looks random; two runs with other
    tokens, or the same ones in another order, then agree about as seldom as two random numbers (but for long runs that
    were contrived to: Thue-Morse sequences of two tokens).
    """
    n_runs = max(0, len(tokens) - length + 1)
    powers, inverses = _powers(BASE, BLOCK_RUNS + length - 1), _powers(pow(BASE, -1, 1 << 64), BLOCK_RUNS)
    hashes = np.empty(n_runs, dtype=np.uint64)
    sums = np.zeros(BLOCK_RUNS + length, dtype=np.uint64)
    for begin in range(0, n_runs, BLOCK_RUNS):
        n = min(BLOCK_RUNS, n_runs - begin)
        terms = _mixed(tokens[begin : begin + n + length - 1])
        terms *= powers[: len(terms)]
        np.cumsum(terms, out=sums[1 : 1 + len(terms)])
        block = hashes[begin : begin + n]
        np.subtract(sums[length : length + n], sums[:n], out=block)
        block *= inverses[:n]
    return hashes


def _mixed(tokens: Int32[Array, " n"]) -> UInt64[Array, " n"]:
    """Each token as a number with its bits all over (after SplitMix64: Steele et al. 2014); no two get the same."""
    mixed = tokens.astype(np.uint64)
    for factor, shift in ((0x9E3779B97F4A7C15, 32), (0xBF58476D1CE4E5B9, 29)):
        mixed *= np.uint64(factor)
        mixed ^= mixed >> np.uint64(shift)
    return mixed


def _powers(base: int, n: int) -> UInt64[Array, " n"]:
    """base^0 to base^(n - 1), modulo 2^64."""
    powers = np.full(n, base, dtype=np.uint64)
    powers[0] = 1
    return np.cumprod(powers, dtype=np.uint64)


def _found_again(ordered: UInt64[Array, " n"]) -> UInt64[Array, " m"]:
    """Each of some sorted values that stands there more than once."""
    is_same = ordered[1:] == ordered[:-1]
    is_first = is_same.copy()
    is_first[1:] &= ~is_same[:-1]
    return ordered[1:][is_first]


def _beginnings(hashes: UInt64[Array, " n"]) -> Bool[Array, " n_beginnings"]:
    """Whether some hash begins with each of the possible first bits: most runs are told apart by them."""
    is_there = np.zeros(1 << 64 - int(_BEGINNING), dtype=np.bool_)
    is_there[hashes >> _BEGINNING] = True
    return is_there


def _begins_of_equal(values: Int[Array, " n"]) -> Int64[Array, " n"]:
    """For each of some sorted values, where the stretch of those equal to it begins."""
    begins = np.arange(len(values))
    begins[1:][values[1:] == values[:-1]] = 0
    return np.maximum.accumulate(begins)
