"""A fixed number of entries in memory, waiting to be sorted by feature: filled, emptied and filled again.

An entry is 12 bytes: its key (32 bits: the feature, counted on over the modules) and, in one 64-bit word, its location
in the pool's range (32 bits) and its value (16 or 32 bits). The word is what the counting sort moves.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int, Int32, Int64, UInt32
from scipy.sparse import csr_array

from sae_auto_interp.types import Array

BYTES_PER_ENTRY = 12
PIECE_ENTRIES = 1 << 19
REACH = 1 << 31
_LOCATION, _VALUE = 0, 1


class EntryPool:
    """Room for `capacity` entries with keys below `n_keys`; its memory is taken once, when the first entry comes."""

    def __init__(self, capacity: int, n_keys: int, location_type: np.dtype[np.unsignedinteger]) -> None:
        assert n_keys <= np.iinfo(np.int32).max, f"{n_keys} features in all"
        self.n_keys = n_keys
        self.capacity = capacity
        self.n = 0
        self._location_type = location_type
        self._first_location = 0
        self._keys: Int32[Array, " capacity"] = np.empty(0, np.int32)
        self._words: Int64[Array, " capacity"] = np.empty(0, np.int64)

    def take(self, first_key: int, features: Int[Array, " n"], locations: Int64[Array, " n"], values: Array) -> int:
        """Take in the first of some entries, in order of location, as many as there is room for; returns how many.

        There is room for entries within 2^31 positions of the first one taken into an empty pool, before or behind.
        """
        if len(self._keys) == 0:
            self._keys, self._words = np.empty(self.capacity, np.int32), np.empty(self.capacity, np.int64)
        if self.n == 0:
            self._first_location = max(0, int(locations[0]) - REACH)
        n = min(len(locations), self.capacity - self.n, self._n_near(locations))
        new = slice(self.n, self.n + n)
        np.add(features[:n], first_key, out=self._keys[new], casting="unsafe")
        halves = self._words[new].view(np.uint32).reshape(n, 2)
        np.subtract(locations[:n], self._first_location, out=halves[:, _LOCATION], casting="unsafe")
        halves[:, _VALUE] = values[:n].view(f"u{values.itemsize}")
        self.n += n
        return n

    def emptied(self, value_type: np.dtype[np.generic]) -> "SortedEntries":
        """What is in the pool, sorted by key, entries of one key in the order in which they came; the pool is empty.

        A counting sort, linear in the entries and the keys: as a sparse matrix of one row, entries go from row order
        to column order.
        """
        one_row = csr_array(
            (self._words[: self.n], self._keys[: self.n], np.array([0, self.n], dtype=np.int32)), shape=(1, self.n_keys)
        )
        by_key: Any = one_row.tocsc()
        self.n = 0
        offsets: UInt32[Array, " n_keys_plus_1"] = by_key.indptr.astype(np.uint32)
        words: Int64[Array, " n"] = by_key.data
        return SortedEntries(offsets, words, self._first_location, self._location_type, value_type)

    def release(self) -> None:
        """Give the memory back; what was not emptied is lost."""
        self.n = 0
        self._keys, self._words = np.empty(0, np.int32), np.empty(0, np.int64)

    def _n_near(self, locations: Int64[Array, " n"]) -> int:
        """How many of the first entries lie where 32 bits reach from the first location."""
        if int(locations[0]) < self._first_location:
            return 0
        if int(locations[-1]) - self._first_location < 2 * REACH:
            return len(locations)
        return int(np.searchsorted(locations, self._first_location + 2 * REACH))


class SortedEntries:
    """Entries in the order of their keys; `offsets` [n_keys + 1] says where each key begins."""

    def __init__(
        self,
        offsets: UInt32[Array, " n_keys_plus_1"],
        words: Int64[Array, " n"],
        first_location: int,
        location_type: np.dtype[np.unsignedinteger],
        value_type: np.dtype[np.generic],
    ) -> None:
        self.offsets = offsets
        self.n = len(words)
        self._halves = words.view(np.uint32).reshape(self.n, 2)
        self._first_location = location_type.type(first_location)
        self._value_bits = np.dtype(f"u{value_type.itemsize}")
        self._value_type = value_type

    def locations(self) -> Iterator[Array]:
        """All locations, a piece at a time."""
        for halves in self._pieces():
            yield halves[:, _LOCATION].astype(self._first_location.dtype) + self._first_location

    def values(self) -> Iterator[Array]:
        """All values as they are stored, a piece at a time."""
        for halves in self._pieces():
            yield halves[:, _VALUE].astype(self._value_bits).view(self._value_type)

    def _pieces(self) -> Iterator[Array]:
        for begin in range(0, self.n, PIECE_ENTRIES):
            yield self._halves[begin : begin + PIECE_ENTRIES]
