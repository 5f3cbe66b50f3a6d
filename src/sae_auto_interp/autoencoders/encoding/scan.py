"""Entries above a bound, taken out of tiles of columns while these are in the processor's cache.

Of each tile only that is done which needs it there: one comparison, whose eight truth values are looked at as one
number, and a copy of the few octets in which anything is above. Which of their numbers are is found out later, of many
tiles together: with every operation, however short, a thread may wait for Python's lock.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt64

from sae_auto_interp.autoencoders.encoding.workers import Room
from sae_auto_interp.types import Array

OCTET = 8
"""Neighbouring columns whose eight truth values are looked at as one number."""
KEPT_PER_K = 8
"""Entries of a row, for each of the top k, that there is room for; where more pass, a bound is of no use."""
MOST_OCTETS = 1 << 17
"""That are kept before their entries are taken out: 4 MiB of numbers, and a tile's."""


@dataclass(frozen=True, slots=True)
class Entries:
    """Some entries of a block of rows."""

    rows: Int64[Array, " n"]
    columns: Int64[Array, " n"]
    values: Float32[Array, " n"]

    def where(self, wanted: Bool[Array, " n"]) -> "Entries":
        """Those that are wanted, in the same order."""
        return Entries(self.rows[wanted], self.columns[wanted], self.values[wanted])


@dataclass(frozen=True, slots=True)
class _Octets:
    """Those of a tile in which anything is above its bound."""

    first_column: int
    """The first column of the tile."""
    places: Int64[Array, " n"]
    """In the tile, counted in octets."""
    marks: UInt64[Array, " n"]
    values: Float32[Array, "n 8"]


class Scan:
    """A scan of tiles of `n_rows` rows (at most 65536) and `columns` columns, a multiple of 8; the last may be
    narrower."""

    def __init__(self, n_rows: int, columns: int, room: Room) -> None:
        assert columns % OCTET == 0, f"{columns} columns"
        self._per_row = columns // OCTET
        self._marks = room.array("marks", (n_rows, columns), np.bool_)
        self._marked = room.array("marked", (n_rows, self._per_row), np.bool_)
        self._waiting: list[_Octets] = []
        self._found: list[Entries] = []
        self._n_waiting = self._n_tiles = 0
        self.n_octets = 0
        """Since the beginning."""

    def add(
        self, tile: Float32[Array, "n_rows columns"], n_columns: int, bound: Array | float, first_column: int
    ) -> None:
        """Look for what is above `bound` (as it is broadcast) in the first `n_columns` of a tile.

        The whole tile is contiguous; `first_column` is what its first column counts as.
        """
        np.greater(tile[:, :n_columns], bound, out=self._marks[:, :n_columns])
        self._marks[:, n_columns:] = False
        eights = self._marks.view(np.uint64)
        places = np.flatnonzero(np.not_equal(eights, 0, out=self._marked))
        octets = _Octets(first_column, places, eights.reshape(-1)[places], tile.reshape(-1, OCTET)[places])
        self._waiting.append(octets)
        self._n_tiles += 1
        self._n_waiting += len(places)
        self.n_octets += len(places)
        if self._n_waiting > MOST_OCTETS:
            self._take_out()

    def entries(self) -> Entries:
        """What was found since this was last asked for, in order of row, and of tiles within a row."""
        if self._waiting:
            self._take_out()
        found, n_tiles = self._found, self._n_tiles
        self._found, self._n_tiles = [], 0
        return found[0] if n_tiles == 1 else by_row(found)

    def _take_out(self) -> None:
        tiles, self._waiting, self._n_waiting = self._waiting, [], 0
        marked = np.flatnonzero(np.concatenate([tile.marks for tile in tiles]).view(np.bool_))
        octet = marked >> 3
        place = np.concatenate([tile.places for tile in tiles])[octet]
        first_columns = np.repeat([tile.first_column for tile in tiles], [len(tile.places) for tile in tiles])
        rows = place // self._per_row
        columns = (place - rows * self._per_row) * OCTET + (marked & 7) + first_columns[octet]
        values = np.concatenate([tile.values for tile in tiles]).reshape(-1)[marked]
        self._found.append(Entries(rows, columns, values))


def by_row(parts: list[Entries]) -> Entries:
    """All entries in order of row (below 65536); those of one row in the order of the parts."""
    rows, columns, values = (np.concatenate([getattr(part, name) for part in parts]) for name in Entries.__slots__)
    order = np.argsort(rows.astype(np.uint16), kind="stable")  # 16-bit numbers: a radix sort
    return Entries(rows[order], columns[order], values[order])
