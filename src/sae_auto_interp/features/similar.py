"""Silent windows that are alike in meaning to a feature's examples: the hardest for an explanation of the topic.

A few thousand windows of the corpus are embedded once. For each purpose as many of its activating examples, drawn at
random, are queries as windows are wanted; they take turns, each with the nearest window that is silent, on its side and
not taken (delphi, whose queries do not take turns, takes nearly all windows from the first).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int64

from sae_auto_interp.cache.derived import read_derived, write_derived
from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.features.negatives import Side, SilentDraw
from sae_auto_interp.features.pools import Pool, joined
from sae_auto_interp.features.selection import (
    HERE,
    N_ACTIVATING_POOLS,
    POOLS,
    Selection,
    joined_selection,
    sides_of,
)
from sae_auto_interp.protocols import Embedder
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Array, Failure

if TYPE_CHECKING:
    from sae_auto_interp.features.loader import FeatureLoader

TEXTS_AT_ONCE = 256
"""Windows per call of the embedder while the index is built."""


@dataclass(frozen=True, slots=True)
class WindowIndex:
    """Embedded windows of a grid."""

    windows: Int64[Array, " n"]
    vectors: Float32[Array, "n d"]
    """Vectors of length one."""

    def save(self, path: Path, source: str) -> None:
        """Write a file with a checksum; `source` says what the index was made from."""
        write_derived(path, {"windows": self.windows, "vectors": self.vectors}, source)

    @classmethod
    def load(cls, path: Path, source: str) -> "WindowIndex | None":
        """None where there is none, or it is damaged, or made from something else."""
        arrays = read_derived(path, source)
        return None if arrays is None else cls(arrays["windows"], arrays["vectors"])


def index_source(loader: "FeatureLoader", grid: WindowGrid, embedder: Embedder) -> str:
    """What decides an index: the text, the windows, the draw, and who embeds."""
    cfg, digest = loader.cfg, hashlib.sha256()
    for array in (grid.rows.tokens, grid.rows.documents):
        digest.update(np.ascontiguousarray(array).data)
    for piece in loader.vocabulary.pieces:
        digest.update(piece + b"\0")
    settings = (cfg.window, cfg.near_duplicate_tokens, cfg.similar_pool, cfg.seed)
    return f"similar {digest.hexdigest()} {settings} {embedder.name}"


async def window_index(loader: "FeatureLoader", grid: WindowGrid, embedder: Embedder) -> WindowIndex:
    """`similar_pool` windows of a grid, drawn at random and without near-duplicates of each other, or all there are."""
    cfg = loader.cfg
    everywhere: Side = np.ones(len(grid.rows.document_names), dtype=np.bool_)
    nothing = np.empty(0, np.int64)
    rng = derived_rng(cfg.seed, "records.similar.pool")
    windows = SilentDraw(nothing, grid, nothing).random(cfg.similar_pool, everywhere, rng)
    texts = loader.texts_at(grid.starts_of(windows))
    parts = [await embedder.embed(texts[i : i + TEXTS_AT_ONCE]) for i in range(0, len(texts), TEXTS_AT_ONCE)]
    return WindowIndex(windows, np.concatenate(parts).astype(np.float32) if parts else np.empty((0, 0), np.float32))


async def with_similar(
    selection: Selection, loader: "FeatureLoader", index: WindowIndex, embedder: Embedder
) -> Selection | Failure:
    """The selection with its silent windows of kind `similar`, which come before the others of their purpose.

    Raises what the embedder raises.
    """
    feature, cfg = selection.feature, loader.cfg
    entries, grid = loader.dataset.entries(feature), loader.grid_of(feature.module_path)
    windows = loader.constructor(entries, grid)
    draw = SilentDraw(windows.touched, grid, selection.windows.starts)
    pools = selection.windows.parts(selection.sizes)
    sides = sides_of(feature, windows, grid, cfg)
    for i, (counts, side) in enumerate(zip(cfg.silent_counts, sides, strict=True)):
        n = counts.get("similar", 0)
        if n:
            rng = derived_rng(cfg.seed, f"records.non_activating.similar.{POOLS[i]}", feature)
            queries = pools[i].starts[rng.permutation(len(pools[i]))[:n]]
            vectors = await embedder.embed(loader.texts_at(queries)) if len(queries) else index.vectors[:0]
            found = _nearest(draw, index, vectors, grid, side, n)
            pools[N_ACTIVATING_POOLS + i] = joined([found, pools[N_ACTIVATING_POOLS + i]])
    return joined_selection(entries, pools, selection.stats, cfg, (*HERE, "similar"))


def _nearest(
    draw: SilentDraw, index: WindowIndex, queries: Float32[Array, "m d"], grid: WindowGrid, side: Side, n: int
) -> Pool:
    """Return, for each query in turn, the nearest window that fits."""
    is_fitting = np.isin(index.windows, draw.fitting(index.windows, side))
    windows = index.windows[is_fitting]
    cosines: Float32[Array, "m k"] = queries @ index.vectors[is_fitting].T
    order: Sequence[Sequence[int]] = windows[np.argsort(-cosines, axis=1, kind="stable")].tolist()
    chosen, query = draw.in_turn([iter(its) for its in order], n)
    distances = 1 - cosines[query, np.searchsorted(windows, chosen)]
    return Pool.of_silent(chosen, grid, "similar", distances=tuple(distances.tolist()))
