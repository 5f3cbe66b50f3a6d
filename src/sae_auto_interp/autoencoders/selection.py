"""Which pre-activations of a block of rows are kept: those above a threshold, or each row's exact top k.

On a CPU the columns come in tiles that stay in the processor's cache, and what may be kept is taken out while they are
there (for the top k: see `candidates`); the pre-activations of all columns never exist together. Where several entries
equal the k-th largest, those are kept that `torch.topk` keeps of the whole row: such rows are computed once more.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from sae_auto_interp.autoencoders.candidates import Candidates, Entries
from sae_auto_interp.autoencoders.workers import Room
from sae_auto_interp.types import Array

PIECE = 32
"""Neighbouring columns that share one maximum, from which the first bound is found."""
TILE_COLUMNS = 2080
"""Columns of a tile, about; many more where k is large, for a tile has at least two pieces for each wanted entry."""
TILE_ENTRIES = 9 << 17
"""Pre-activations of a tile, at most: 4.5 MiB; but it has no fewer than LEAST_ROWS."""
MOST_ROWS, LEAST_ROWS = 512, 16
LITTLE_LESS = 0.97
MISSED_SHARE = 0.05
WHOLE_ENTRIES = 1 << 23
"""Pre-activations of rows that are sorted whole, at a time: 32 MiB."""


@runtime_checkable
class PreActivations(Protocol):
    """Rows whose pre-activations are computed when they are asked for."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    def compute(self, first: int, last: int, out: Float32[Tensor, "n columns"]) -> None:
        """Write those of the columns from `first` to `last` (exclusive)."""
        ...

    def norms(self) -> Float32[Array, " n"]:
        """Of the rows' activations, or of what they are as large as."""
        ...

    def of_rows(self, rows: slice | Int64[Array, " some"]) -> "PreActivations":
        """The same of some rows."""
        ...


@dataclass(frozen=True, slots=True)
class Tiles:
    """How many rows are encoded together, and in which steps their columns are taken."""

    rows: int
    columns: int
    piece: int = 1
    """`columns` is a multiple of it."""


def tiles_for(width: int, k: int | None) -> Tiles:
    """For the top `k`, or for a threshold. An odd number of pieces, so that rows fall on different cache sets."""
    if k is None:
        return _tiles(min(width, TILE_COLUMNS), 1)
    if _is_sorted_whole(width, k):
        return Tiles(max(1, WHOLE_ENTRIES // width), width)
    n_pieces = min(max(2 * k, TILE_COLUMNS // PIECE) | 1, -(-width // PIECE))
    return _tiles(n_pieces * PIECE, PIECE)


def _tiles(columns: int, piece: int) -> Tiles:
    return Tiles(min(MOST_ROWS, max(LEAST_ROWS, TILE_ENTRIES // columns)), columns, piece)


def _is_sorted_whole(width: int, k: int) -> bool:
    """Whether so much of a row is wanted that looking for candidates would gain nothing."""
    return width // PIECE < 2 * k


class LikelyBounds:
    """How large the k-th largest entry of a row is at least, if the row is like those seen last.

    It is taken to be a share of the row's norm: the smallest share among the last rows, and a little less.
    """

    def __init__(self) -> None:
        self._share = 0.0

    def of(self, pre: PreActivations) -> Float32[Array, " n"] | None:
        """A bound for each row; None while there is none."""
        return pre.norms() * np.float32(self._share) if self._share else None

    def learn(self, pre: PreActivations, kth_largest: Float32[Array, " n"], n_missed: int) -> None:
        """What it was. Where a few rows missed it, it was too high; where many did, rows are not like the last ones."""
        with np.errstate(all="ignore"):  # rows of zeros have a share that is no number
            share = float((kth_largest / pre.norms()).min()) * LITTLE_LESS ** (3 if n_missed else 1)
        is_usable = np.isfinite(share) and n_missed <= MISSED_SHARE * len(kth_largest)
        self._share = share if is_usable else 0.0


def select_above(pre: PreActivations, threshold: Float32[Array, " width"] | float, tiles: Tiles, room: Room) -> Entries:
    """The entries above `threshold`, in order of row."""
    n, width = pre.shape
    found: list[Entries] = []
    for first in range(0, width, tiles.columns):
        columns = min(tiles.columns, width - first)
        tile = room.array("tile", (n, columns))
        pre.compute(first, first + columns, torch.from_numpy(tile))
        least = threshold[first : first + columns] if isinstance(threshold, np.ndarray) else threshold
        places = np.flatnonzero(np.greater(tile, least, out=room.array("marks", tile.shape, np.bool_)))
        rows = places // columns
        found.append(Entries(rows, places - rows * columns + first, tile.reshape(-1)[places]))
    return found[0] if len(found) == 1 else by_row(found)


def select_topk(
    pre: PreActivations, k: int, tiles: Tiles, room: Room, relu_first: bool = False, likely: LikelyBounds | None = None
) -> Entries:
    """The entries above zero among the k largest of each row, in order of row.

    `relu_first` looks for the k largest after a ReLU, which decides nothing but which of equal entries are kept.
    `likely` is asked what to look at, and told what was found; it decides nothing at all.
    """
    n, width = pre.shape
    if _is_sorted_whole(width, k):
        return _topk_of_whole_rows(pre, k, room, relu_first)
    bounds = None if likely is None else likely.of(pre)
    candidates = Candidates(n, k, tiles.columns, tiles.piece, room, bounds)
    tile = torch.from_numpy(room.array("tile", (n, tiles.columns)))
    for first in range(0, width, tiles.columns):
        columns = min(tiles.columns, width - first)
        pre.compute(first, first + columns, tile[:, :columns])
        tile[:, columns:] = -torch.inf
        if not candidates.add(tile, first):
            return _topk_of_whole_rows(pre, k, room, relu_first)
    best, tied, missed = candidates.best(), candidates.tied(), candidates.missed()
    if likely is not None:
        likely.learn(pre, candidates.kth_largest(), len(missed))
    if len(tied):
        best = _replaced(best, tied, _topk_of_whole_rows(pre.of_rows(tied), k, room, relu_first))
    if len(missed):
        best = _replaced(best, missed, select_topk(pre.of_rows(missed), k, tiles, room, relu_first))
    return best


def _replaced(entries: Entries, rows: Int64[Array, " some"], of_rows: Entries) -> Entries:
    """The entries with others for some rows; `of_rows` counts these."""
    others = ~np.isin(entries.rows, rows)
    kept = Entries(entries.rows[others], entries.columns[others], entries.values[others])
    return by_row([kept, Entries(rows[of_rows.rows], of_rows.columns, of_rows.values)])


def by_row(parts: list[Entries]) -> Entries:
    """All entries in order of row; those of one row in the order of the parts."""
    rows, columns, values = (np.concatenate([getattr(part, name) for part in parts]) for name in Entries.__slots__)
    order = np.argsort(rows.astype(np.uint16), kind="stable")  # 16-bit numbers: a radix sort
    return Entries(rows[order], columns[order], values[order])


def _topk_of_whole_rows(pre: PreActivations, k: int, room: Room, relu_first: bool) -> Entries:
    n, width = pre.shape
    step = max(1, WHOLE_ENTRIES // width)
    starts = range(0, n, step)
    parts = [_top_of(pre.of_rows(slice(first, first + step)), first, k, room, relu_first) for first in starts]
    return parts[0] if len(parts) == 1 else by_row(parts)


def _top_of(pre: PreActivations, first_row: int, k: int, room: Room, relu_first: bool) -> Entries:
    block = torch.from_numpy(room.array("tile", pre.shape))
    pre.compute(0, pre.shape[1], block)
    if relu_first:
        block.relu_()
    values, columns = (found.numpy() for found in block.topk(k, dim=1))
    fires = values > 0
    return Entries(np.nonzero(fires)[0] + first_row, columns[fires], values[fires])
