"""Which pre-activations of a block of rows are kept: those above a threshold, or each row's exact top k.

On a CPU they are taken out of tiles of columns (`tiles`): the top k by what is likely (`likely`) and, where nothing is
known yet or it was no good, by what is certain (`Candidates`). Where several entries equal the k-th largest, those are
kept that `torch.topk` keeps of the whole row: such rows are computed once more.

`Candidates` are the few entries of each row that may be of its top k, taken out of tiles of columns as these pass. A
bound, at most the k-th largest entry of the row so far, decides: what is below it is forgotten. It begins with the
k-th largest maximum of disjoint pieces of the first tile, and becomes the exact k-th largest of what was taken whenever
about k new entries of each row have passed it: after each doubling of the columns when columns are alike. Where hot
columns stand in one place and too many would pass at once, the k-th largest of that tile is found first.
"""

import numpy as np
import torch
from jaxtyping import Float32, Int, Int32, Int64
from torch import Tensor

from sae_auto_interp.autoencoders.encoding.likely_bounds import LikelyBounds, Top, top_above
from sae_auto_interp.autoencoders.encoding.scan import KEPT_PER_K, OCTET, Entries, Scan, by_row
from sae_auto_interp.autoencoders.encoding.tiles import WHOLE_ENTRIES, PreActivations, Tiles, computed, is_sorted_whole
from sae_auto_interp.autoencoders.encoding.workers import Room
from sae_auto_interp.types import Array

LEAST_ABOVE_ZERO = np.finfo(np.float32).smallest_subnormal


class Candidates:
    """The candidates of `n_rows` rows, in tiles of `columns`: a multiple of `piece` (itself one of 8), with at least k
    pieces.

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
        """Bound rows whose hot columns stand in this tile by the tile's own k-th largest entry as well."""
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


def select_above(pre: PreActivations, threshold: Float32[Array, " width"] | float, tiles: Tiles, room: Room) -> Entries:
    """The entries above `threshold`, in order of row."""
    scan = Scan(pre.shape[0], tiles.columns, room)
    for first, n_columns, tile in computed(pre, tiles.columns, room):
        bound = threshold[first : first + n_columns] if isinstance(threshold, np.ndarray) else threshold
        scan.add(tile.numpy(), n_columns, bound, first)
    return scan.entries()


def select_topk(
    pre: PreActivations, k: int, tiles: Tiles, room: Room, relu_first: bool = False, likely: LikelyBounds | None = None
) -> Entries:
    """The entries above zero among the k largest of each row, in order of row.

    `relu_first` looks for the k largest after a ReLU, which decides nothing but which of equal entries are kept.
    `likely` is asked what to look at, and told what was found; it decides nothing at all.
    """
    if is_sorted_whole(pre.shape[1], k):
        return _topk_of_whole_rows(pre, k, room, relu_first)
    bounds = None if likely is None else likely.of(pre)
    top = None if bounds is None else top_above(pre, k, tiles, room, bounds)
    top = top or _top_of_candidates(pre, k, tiles, room)
    if top is None:
        return _topk_of_whole_rows(pre, k, room, relu_first)
    if likely is not None:
        likely.learn(pre, top.kth_largest, len(top.missed))
    best = top.best
    if len(top.tied):
        best = _replaced(best, top.tied, _topk_of_whole_rows(pre.of_rows(top.tied), k, room, relu_first))
    if len(top.missed):
        best = _replaced(best, top.missed, select_topk(pre.of_rows(top.missed), k, tiles, room, relu_first))
    return best


def _top_of_candidates(pre: PreActivations, k: int, tiles: Tiles, room: Room) -> Top | None:
    """None where nearly all values are equal."""
    candidates = Candidates(pre.shape[0], k, tiles.columns, tiles.piece, room)
    for first, n_columns, tile in computed(pre, tiles.columns, room):
        tile[:, n_columns:] = -torch.inf
        if not candidates.add(tile, first):
            return None
    best = candidates.best()
    return Top(best, candidates.kth_largest(), tied=candidates.tied(), missed=np.empty(0, np.int64))


def _replaced(entries: Entries, rows: Int64[Array, " some"], of_rows: Entries) -> Entries:
    """The entries with others for some rows; `of_rows` counts these."""
    kept = entries.where(~np.isin(entries.rows, rows))
    return by_row([kept, Entries(rows[of_rows.rows], of_rows.columns, of_rows.values)])


def _topk_of_whole_rows(pre: PreActivations, k: int, room: Room, relu_first: bool) -> Entries:
    n, width = pre.shape
    step = max(1, WHOLE_ENTRIES // width)
    starts = range(0, n, step)
    parts = [_of_whole_rows(pre.of_rows(slice(first, first + step)), first, k, room, relu_first) for first in starts]
    return parts[0] if len(parts) == 1 else by_row(parts)


def _of_whole_rows(pre: PreActivations, first_row: int, k: int, room: Room, relu_first: bool) -> Entries:
    block = torch.from_numpy(room.array("tile", pre.shape))
    pre.compute(0, pre.shape[1], block)
    if relu_first:
        block.relu_()
    values, columns = (found.numpy() for found in block.topk(k, dim=1))
    fires = values > 0
    return Entries(np.nonzero(fires)[0] + first_row, columns[fires], values[fires])
