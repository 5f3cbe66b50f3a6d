"""A large sparse cache without a model: made-up activations through the library's own spool and merge.

Every token has `k` features drawn at random (one drawn twice counts once) with log-normal activations. Flat: all
features are equally likely. Heavy: the feature of rank r is drawn with probability proportional to 1 / (20 + r), so
that some fire on a fifth of all tokens and most hardly ever. Memory is that of one block and of the spool, whatever
the number of tokens.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64

from sae_auto_interp.cache.layout import FORMAT_VERSION, shard_ranges
from sae_auto_interp.cache.merge import merge_into_cache
from sae_auto_interp.cache.write_buffer import WriteBuffer
from sae_auto_interp.types import Array, CacheManifest

MODULE_PATH = "h.1"
N_SPLITS = 5
BLOCK_ROWS = 128
BUFFER_BYTES = 64 << 20
HEAVY_OFFSET = 20.0
"""Added to the rank: the smaller, the more of all activations the densest features have."""

Block = tuple[int, Int64[Array, " n"], Int64[Array, " n"], Float32[Array, " n"]]
"""Rows done after it; features, locations and activations of its entries, by location and then by feature."""


def write_synthetic_store(
    root: Path, *, width: int, n_tokens: int, ctx_len: int, k: int, heavy: bool, seed: int
) -> CacheManifest:
    """Write a finished cache of one module below `root`: n_tokens // ctx_len rows, about `k` activations per token."""
    work = root / ".unfinished"
    n_rows = n_tokens // ctx_len
    fingerprint = f"synthetic {width} {n_rows} {ctx_len} {k} {heavy} {seed}"
    spool = WriteBuffer(
        work,
        {MODULE_PATH: width},
        n_positions=n_rows * ctx_len,
        dtype="float16",
        max_bytes=BUFFER_BYTES,
        fingerprint=fingerprint,
    )
    rng = np.random.default_rng([seed, 3])
    cumulative = _cumulative(width, rng) if heavy else None
    for rows_done, features, locations, activations in _blocks(n_rows, ctx_len, width, k, cumulative, rng):
        spool.append(MODULE_PATH, features, locations, activations)
        spool.commit(rows_done, last=rows_done == n_rows)
    description = CacheManifest(
        format_version=FORMAT_VERSION,
        module_path=MODULE_PATH,
        model="none",
        autoencoder="none",
        weights_sha256="",
        data="synthetic",
        n_rows=n_rows,
        ctx_len=ctx_len,
        width=width,
        activation_dtype="float16",
        location_dtype=str(spool.location_dtype),
        shards=(),
        fingerprint=fingerprint,
    )
    ranges = shard_ranges(width, min(N_SPLITS, width))
    manifest = merge_into_cache(spool.sources(MODULE_PATH), root / MODULE_PATH, ranges, description)
    shutil.rmtree(work)
    return manifest


def _blocks(
    n_rows: int,
    ctx_len: int,
    width: int,
    k: int,
    cumulative: Float64[Array, " width"] | None,
    rng: np.random.Generator,
) -> Iterator[Block]:
    for first in range(0, n_rows, BLOCK_ROWS):
        last = min(first + BLOCK_ROWS, n_rows)
        drawn = _draw((last - first) * ctx_len, k, width, cumulative, rng)
        is_new = np.ones(drawn.shape, dtype=bool)
        is_new[:, 1:] = drawn[:, 1:] != drawn[:, :-1]
        tokens = np.repeat(np.arange(first * ctx_len, last * ctx_len), is_new.sum(axis=1))
        activations = np.exp(rng.standard_normal(len(tokens), dtype=np.float32))
        yield last, drawn[is_new].astype(np.int64), tokens, activations


def _draw(
    n_tokens: int, k: int, width: int, cumulative: Float64[Array, " width"] | None, rng: np.random.Generator
) -> Array:
    """[n_tokens, k] features, ascending within each token."""
    if cumulative is None:
        drawn = rng.integers(0, width, size=(n_tokens, k), dtype=np.uint32)
    else:
        drawn = np.searchsorted(cumulative, rng.random((n_tokens, k)), side="right").astype(np.uint32)
    drawn.sort(axis=1)
    return drawn


def _cumulative(width: int, rng: np.random.Generator) -> Float64[Array, " width"]:
    """Cumulative probability of the features; which of them are the dense ones is drawn too."""
    probability = 1.0 / (HEAVY_OFFSET + np.arange(width))
    cumulative = np.cumsum(rng.permutation(probability / probability.sum()))
    cumulative[-1] = 1.0
    return cumulative
