"""Which windows have the same tokens: by a 64-bit hash of each window, and by comparing where hashes agree."""

import numpy as np
from jaxtyping import Int32, Int64, UInt64

from sae_auto_interp.types import Array

BLOCK_WINDOWS = 1 << 14
"""Windows hashed or compared at a time: a few MiB."""


def first_with_same_tokens(tokens: Int32[Array, "n window"]) -> Int64[Array, " n"]:
    """For each row of tokens the index of the first row that equals it; its own where none before does."""
    hashes = token_hashes(tokens)
    order = np.argsort(hashes, kind="stable")
    is_new = np.ones(len(order), dtype=np.bool_)
    is_new[1:] = hashes[order[1:]] != hashes[order[:-1]]
    first = np.empty(len(order), dtype=np.int64)
    first[order] = order[is_new][np.cumsum(is_new) - 1]
    repeats = np.flatnonzero(first != np.arange(len(order)))
    collisions = repeats[_differ(tokens, repeats, first[repeats])]
    first[collisions] = _compared_as_bytes(tokens, collisions)
    return first


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


def _differ(tokens: Int32[Array, "n window"], ones: Int64[Array, " m"], others: Int64[Array, " m"]) -> Array:
    """[m] whether the tokens of two rows differ."""
    differ = np.empty(len(ones), dtype=np.bool_)
    for begin in range(0, len(ones), BLOCK_WINDOWS):
        block = slice(begin, begin + BLOCK_WINDOWS)
        differ[block] = (tokens[ones[block]] != tokens[others[block]]).any(axis=1)
    return differ


def _compared_as_bytes(tokens: Int32[Array, "n window"], rows: Int64[Array, " m"]) -> Int64[Array, " m"]:
    """For some rows, in order, the first of them with the same tokens: the slow way, for hashes equal by chance."""
    first: dict[bytes, int] = {}
    return np.array([first.setdefault(tokens[row].tobytes(), row) for row in rows.tolist()], dtype=np.int64)
