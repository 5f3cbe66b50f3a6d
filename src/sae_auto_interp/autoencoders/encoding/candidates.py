"""The few entries of each row that may be of its top k, taken out of tiles of columns as these pass.

A bound, at most the k-th largest entry of the row so far, decides: what is below it is forgotten. It begins with the
k-th largest maximum of disjoint pieces of the first tile, and becomes the exact k-th largest of what was taken whenever
about k new entries of each row have passed it: after each doubling of the columns when columns are alike. Where hot
columns stand in one place and too many would pass at once, the k-th largest of that tile is found first.
"""

import numpy as np
import torch
from jaxtyping import Float32, Int, Int32, Int64
from torch import Tensor

from sae_auto_interp.autoencoders.encoding.scan import KEPT_PER_K, OCTET, Entries, Scan
from sae_auto_interp.autoencoders.encoding.workers import Room
from sae_auto_interp.types import Array

LEAST_ABOVE_ZERO = np.finfo(np.float32).smallest_subnormal


class Candidates:
    """Of `n_rows` rows, in tiles of `columns`: a multiple of `piece` (itself one of 8), with at least k pieces.

    Each row has a line of a table, filled from the left; the places that are still free hold minus infinity.
    """

    def __init__(self, n_rows: int, k: int, columns: int, piece: int, room: Room) -> None:
        assert piece % OCTET == columns % piece == 0, f"{columns} columns in pieces of {piece}"
        assert k <= columns // piece, f"k={k}, {columns // piece} pieces"
        self._k, self._piece = k, piece
        self._capacity = KEPT_PER_K * k + piece
        self._values = room.array("values", (n_rows, self._capacity))
        self._values.fill(-np.inf)
        self._columns: Int32[Array, "n_rows capacity"] = room.array("columns", self._values.shape, np.int32)
        self._counts = np.zeros(n_rows, np.int64)
        self._bound: Float32[Array, "n_rows 1"] = np.full((n_rows, 1), LEAST_ABOVE_ZERO, np.float32)
        self._scan = Scan(n_rows, columns, room)
        self._n_since = 0
        self._is_first = True

    def add(self, tile: Float32[Tensor, "n_rows columns"], first_column: int) -> bool:
        """Take what may be needed out of the next tile, whose rows are contiguous; False when there is no room."""
        if self._is_first:
            self._begin(tile)
        if self._n_since > self._k * len(self._counts):
            self._tighten()
        entries = tile.numpy()
        found = self._reaching(entries)
        if len(self._too_full(found)):
            self._tighten()
            self._tighten_within(entries, self._too_full(found))
            found = self._reaching(entries)
            if len(self._too_full(found)):
                return False
        self._keep(found.rows, found.columns + first_column, found.values)
        return True

    def best(self) -> Entries:
        """The entries of each row that reach its k-th largest, in order of row."""
        rows, columns, values = self._tighten()
        return Entries(rows, columns.astype(np.int64), values)

    def tied(self) -> Int64[Array, " some"]:
        """After `best`: the rows where more than k entries do."""
        return np.flatnonzero(self._counts > self._k)

    def kth_largest(self) -> Float32[Array, " n_rows"]:
        """After `best`; of rows with fewer entries above zero, the least such number."""
        return self._bound[:, 0]

    def _begin(self, tile: Float32[Tensor, "n_rows columns"]) -> None:
        """A first bound: the k-th largest of the pieces' maxima; never below the least number above zero."""
        maxima = torch.amax(tile.unflatten(1, (-1, self._piece)), 2).numpy()
        place = maxima.shape[1] - self._k
        kth_largest = np.partition(maxima, place, axis=1)[:, place, None]
        self._bound = np.maximum(kth_largest, LEAST_ABOVE_ZERO)
        self._is_first = False

    def _reaching(self, tile: Float32[Array, "n_rows columns"]) -> Entries:
        """The tile's entries that reach the bound, in order of row; columns are counted from the tile's first."""
        self._scan.add(tile, tile.shape[1], np.nextafter(self._bound, np.float32(-np.inf)), 0)
        return self._scan.entries()

    def _too_full(self, found: Entries) -> Int64[Array, " some"]:
        """The rows that have no room for what was found of them."""
        new = np.bincount(found.rows, minlength=len(self._counts))
        return np.flatnonzero(self._counts + new > self._capacity)

    def _tighten_within(self, tile: Float32[Array, "n_rows columns"], rows: Int64[Array, " some"]) -> None:
        """Of rows whose hot columns stand in this tile: the tile's own k-th largest entry bounds them as well."""
        place = tile.shape[1] - self._k
        kth_largest = np.partition(tile[rows], place, axis=1)[:, place, None]
        self._bound[rows] = np.maximum(self._bound[rows], kth_largest)

    def _keep(self, rows: Int64[Array, " n"], columns: Int[Array, " n"], values: Float32[Array, " n"]) -> None:
        """Put entries, which are in order of row, behind those that their rows' lines hold already."""
        new = np.bincount(rows, minlength=len(self._counts))
        lines = np.arange(len(new)) * self._capacity + self._counts - (np.cumsum(new) - new)
        places = np.repeat(lines, new) + np.arange(len(rows))
        self._values.reshape(-1)[places] = values
        self._columns.reshape(-1)[places] = columns
        self._counts += new
        self._n_since += len(rows)

    def _tighten(self) -> "tuple[Int64[Array, ' n'], Int32[Array, ' n'], Float32[Array, ' n']]":
        """Make the bound the exact k-th largest so far, and drop what no longer reaches it; returns what is left."""
        n_used = max(self._k, int(self._counts.max()))
        used = self._values[:, :n_used]
        kth_largest = np.partition(used, n_used - self._k, axis=1)[:, n_used - self._k, None]
        self._bound = np.maximum(self._bound, kth_largest)
        kept = np.flatnonzero(used >= self._bound)
        rows = kept // n_used
        places = kept + rows * (self._capacity - n_used)
        columns, values = self._columns.reshape(-1)[places], self._values.reshape(-1)[places]
        used.fill(-np.inf)
        self._counts[:] = 0
        self._keep(rows, columns, values)
        self._n_since = 0
        return rows, columns, values
