"""The few pieces of each row that may hold entries of its top k, taken out of tiles of columns as these pass.

A piece is some neighbouring columns. The k-th largest maximum of disjoint groups of pieces is a lower bound of the
k-th largest entry of the row. A piece whose maximum is below the bound is forgotten. The bound rises as more columns
are known: each time that about k pieces of each row have passed it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt16
from torch import Tensor

from sae_auto_interp.autoencoders.workers import Room
from sae_auto_interp.types import Array

GROUPS_PER_K = 4
"""Groups of pieces for each wanted entry, at least: more would cost more, fewer bound less."""
KEPT_PER_K = 8
"""Pieces for each wanted entry that there is room for. Where more reach the bound, nearly all values are equal."""
LEAST_ABOVE_ZERO = np.finfo(np.float32).smallest_subnormal


@dataclass(frozen=True, slots=True)
class Entries:
    """Some entries of a block of rows."""

    rows: Int64[Array, " n"]
    columns: Int64[Array, " n"]
    values: Float32[Array, " n"]


class Candidates:
    """Of `n_rows` rows (at most 65536), in tiles of `per_tile` pieces of `piece` columns; at least k pieces a tile."""

    def __init__(self, n_rows: int, k: int, per_tile: int, piece: int, room: Room) -> None:
        assert k <= per_tile, f"k={k}, {per_tile} pieces"
        assert n_rows <= 1 << 16, f"{n_rows} rows"
        self._k, self._per_tile, self._piece = k, per_tile, piece
        self._capacity = KEPT_PER_K * k * n_rows
        n_slots = -(-GROUPS_PER_K * k // per_tile)
        self._groups = room.array("groups", (n_slots, n_rows, per_tile))
        self._groups.fill(-np.inf)
        self._maxima = room.array("maxima", (n_rows, per_tile))
        self._bound: Float32[Array, "n_rows 1"] = np.full((n_rows, 1), LEAST_ABOVE_ZERO, np.float32)
        self._values = room.array("values", (self._capacity, piece))
        self._largest = room.array("largest", (self._capacity,))
        self._rows: UInt16[Array, " capacity"] = room.array("rows", (self._capacity,), np.uint16)
        self._numbers: Int64[Array, " capacity"] = room.array("numbers", (self._capacity,), np.int64)
        self._n = self._n_since = self._n_tiles = 0

    def add(self, tile: Float32[Tensor, "n_rows columns"], first_piece: int) -> bool:
        """Take what may be needed out of the next tile, whose rows are contiguous; False when there is no room."""
        torch.amax(tile.unflatten(1, (-1, self._piece)), 2, out=torch.from_numpy(self._maxima))
        groups = self._groups[self._n_tiles % len(self._groups)]
        np.maximum(groups, self._maxima, out=groups)
        self._n_tiles += 1
        if self._n_tiles == 1 or self._n_since > self._k * len(self._bound):
            self._raise_bound()
        places = np.flatnonzero(self._maxima >= self._bound)
        if self._n + len(places) > self._capacity:
            self._forget()
            places = np.flatnonzero(self._maxima >= self._bound)
            if self._n + len(places) > self._capacity:
                return False
        self._keep(tile, places, first_piece)
        return True

    def reaching(self) -> Entries:
        """All entries that reach the bound of all columns: the top k of each row and some more. In order of row."""
        self._raise_bound()
        kept = self._still_reaching()
        kept = kept[np.argsort(self._rows[kept], kind="stable")]  # 16-bit numbers: a radix sort
        values = self._values[kept]
        reaching = np.flatnonzero(values >= self._bound[self._rows[kept]])
        of_piece = reaching // self._piece
        columns = self._numbers[kept][of_piece] * self._piece
        columns += reaching - of_piece * self._piece
        return Entries(self._rows[kept][of_piece].astype(np.int64), columns, values.reshape(-1)[reaching])

    def _keep(self, tile: Float32[Tensor, "n_rows columns"], places: Int64[Array, " m"], first_piece: int) -> None:
        """Copy the pieces at `places`, counted row by row through the tile."""
        new = slice(self._n, self._n + len(places))
        torch.index_select(
            tile.view(-1, self._piece), 0, torch.from_numpy(places), out=torch.from_numpy(self._values[new])
        )
        np.take(self._maxima.reshape(-1), places, out=self._largest[new])
        rows = places // self._per_tile
        self._rows[new] = rows
        np.subtract(places + first_piece, rows * self._per_tile, out=self._numbers[new])
        self._n += len(places)
        self._n_since += len(places)

    def _raise_bound(self) -> None:
        """To the k-th largest of the groups' maxima so far; never below the least number above zero."""
        n_slots = min(self._n_tiles, len(self._groups))
        groups = self._groups[:n_slots].transpose(1, 0, 2).reshape(len(self._bound), -1)
        place = groups.shape[1] - self._k
        kth_largest = np.partition(groups, place, axis=1)[:, place]
        self._bound = np.maximum(kth_largest, LEAST_ABOVE_ZERO)[:, None]
        self._n_since = 0

    def _forget(self) -> None:
        """Raise the bound and drop the pieces that no longer reach it."""
        self._raise_bound()
        kept = self._still_reaching()
        self._n = len(kept)
        for column in (self._values, self._largest, self._rows, self._numbers):
            column[: self._n] = column[kept]

    def _still_reaching(self) -> Int64[Array, " kept"]:
        return np.flatnonzero(self._largest[: self._n] >= self._bound[self._rows[: self._n], 0])
