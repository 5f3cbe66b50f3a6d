"""A feature's activations -> its active windows, pooled by their maximum, before any is materialised."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, Int64

from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.types import NO_DOCUMENT, Array, FeatureEntries


@dataclass(frozen=True, slots=True)
class ActiveWindows:
    """Windows in which a feature fires, highest maximum first; equal maxima in order of location."""

    entries: FeatureEntries
    grid: WindowGrid
    ids: Int64[Array, " n"]
    maxima: Float32[Array, " n"]
    documents: Int32[Array, " n"]

    def take(self, chosen: Int64[Array, " m"]) -> "ActiveWindows":
        return ActiveWindows(self.entries, self.grid, self.ids[chosen], self.maxima[chosen], self.documents[chosen])

    def activations(self, window: int) -> Float32[Array, " window"]:
        """The feature's activation on each token of one window."""
        row, start = self.grid.place(window)
        first = row * self.grid.rows.ctx_len + start
        begin, end = np.searchsorted(self.entries.locations, [first, first + self.grid.window])
        dense = np.zeros(self.grid.window, dtype=np.float32)
        dense[self.entries.locations[begin:end] - first] = self.entries.activations[begin:end]
        return dense


def max_activation_pooling_sampler(entries: FeatureEntries, grid: WindowGrid) -> ActiveWindows:
    """Pool a feature's activations over the windows of the grid by their maximum; highest first.

    The name is the original library's. Windows whose tokens repeat an earlier window's exactly are
    left out: the same boilerplate in train and test would be a leak.
    """
    windows = grid.windows_of(entries.locations)
    counted = windows >= 0
    counted[counted] = grid.documents[windows[counted]] != NO_DOCUMENT
    windows, values = windows[counted], entries.activations[counted]
    ids, first = np.unique(windows, return_index=True)
    maxima = np.maximum.reduceat(values, first) if len(ids) else np.empty(0, np.float32)
    kept = _first_of_each_text(ids, grid)
    ids, maxima = ids[kept], maxima[kept]
    order = np.lexsort((ids, -maxima))
    return ActiveWindows(entries, grid, ids[order], maxima[order], grid.documents[ids[order]])


def _first_of_each_text(ids: Int64[Array, " n"], grid: WindowGrid) -> Int64[Array, " m"]:
    """Indices of the windows whose tokens none before has; a dictionary beats sorting rows of tokens."""
    first: dict[bytes, int] = {}
    for i, tokens in enumerate(grid.tokens(ids)):
        first.setdefault(tokens.tobytes(), i)
    return np.fromiter(first.values(), dtype=np.int64, count=len(first))
