"""A fixed number of entries in memory, waiting to be sorted by feature: filled, emptied and filled again.

An entry is 12 bytes: its key (32 bits: the feature, counted on over the modules) and, in one 64-bit word, its location
in the pool's range (32 bits) and its value (16 or 32 bits). The entries are sorted a range of keys at a time, each as
many as a piece holds: so sorting takes little memory beside the pool's, and its random writes stay in the cache.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Int, Int32, Int64
from scipy.sparse import csr_array

from sae_auto_interp.cache.threads import N_THREADS
from sae_auto_interp.types import Array

BYTES_PER_ENTRY = 12
PIECE_ENTRIES = 1 << 19
"""Entries that are sorted and handed over at a time."""
LOOKED_AT = 1 << 16
"""Keys that are compared at a time: they stay in the processor's cache."""
REACH = 1 << 31
_LOCATION, _VALUE = 0, 1


class EntryPool:
    """Room for `capacity` entries with keys below `n_keys`.

    Its memory is taken once, when the first entry comes, and all of it is written to: how much there is of it does not
    depend on how many entries come before the pool is emptied.
    """

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
            self._keys, self._words = np.full(self.capacity, 0, np.int32), np.full(self.capacity, 0, np.int64)
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

    def offsets(self) -> Int64[Array, " n_keys_plus_1"]:
        """Where each key begins among the sorted entries, and at last their number."""
        counts = np.zeros(self.n_keys + 1, np.int64)
        for begin in range(0, self.n, PIECE_ENTRIES):
            counts[1:] += np.bincount(self._keys[begin : min(begin + PIECE_ENTRIES, self.n)], minlength=self.n_keys)
        return counts.cumsum()

    def sorted_pieces(
        self, offsets: Int64[Array, " n_keys_plus_1"], value_type: np.dtype[np.generic]
    ) -> Iterator[tuple[Array, Array]]:
        """Locations and values of all entries by key, those of one key in the order in which they came.

        `offsets` are those of `offsets()`. A piece has the entries of some whole keys, or a part of one key's. Of
        `N_THREADS` above one, threads sort as many pieces ahead.
        """
        if N_THREADS == 1:
            for first, last in self._ranges(offsets):
                yield from self._pieces(first, last, value_type)
            return
        begun: deque[Iterator[tuple[Array, Array]]] = deque()
        with ThreadPoolExecutor(N_THREADS, thread_name_prefix="sort") as threads:
            for first, last in self._ranges(offsets):
                if last > first + 1:
                    begun.append(_result_of(threads.submit(self._sorted, first, last, value_type)))
                else:
                    begun.append(self._pieces(first, last, value_type))
                if len(begun) > N_THREADS:
                    yield from begun.popleft()
            while begun:
                yield from begun.popleft()

    def clear(self) -> None:
        """Forget the entries and keep the memory."""
        self.n = 0

    def release(self) -> None:
        """Give the memory back, and forget the entries."""
        self.n = 0
        self._keys, self._words = np.empty(0, np.int32), np.empty(0, np.int64)

    def _n_near(self, locations: Int64[Array, " n"]) -> int:
        """How many of the first entries lie where 32 bits reach from the first location."""
        if int(locations[0]) < self._first_location:
            return 0
        if int(locations[-1]) - self._first_location < 2 * REACH:
            return len(locations)
        return int(np.searchsorted(locations, self._first_location + 2 * REACH))

    def _ranges(self, offsets: Int64[Array, " n_keys_plus_1"]) -> Iterator[tuple[int, int]]:
        """First and last key (exclusive) of what is sorted at a time; a key with more entries is one by itself."""
        first = 0
        while first < self.n_keys and offsets[first] < self.n:
            fits = int(np.searchsorted(offsets, int(offsets[first]) + PIECE_ENTRIES, side="right")) - 1
            last = max(fits, first + 1)
            yield first, last
            first = last

    def _pieces(self, first: int, last: int, value_type: np.dtype[np.generic]) -> Iterator[tuple[Array, Array]]:
        """The keys from `first` to `last` (exclusive); the entries of one key are in order, and may be very many."""
        if last > first + 1:
            yield self._sorted(first, last, value_type)
            return
        for places in self._chunks(first, last):
            yield self._decoded(self._words[places], value_type)

    def _sorted(self, first: int, last: int, value_type: np.dtype[np.generic]) -> tuple[Array, Array]:
        places = np.concatenate([*self._chunks(first, last)])
        return self._decoded(self._by_key(places, first, last), value_type)

    def _chunks(self, first: int, last: int) -> Iterator[Int64[Array, " some"]]:
        """Places of the entries with keys from `first` to `last` (exclusive), in the order in which they came."""
        for begin in range(0, self.n, LOOKED_AT):
            beyond_first = (self._keys[begin : min(begin + LOOKED_AT, self.n)] - first).view(np.uint32)
            yield np.flatnonzero(beyond_first < last - first) + begin  # smaller ones wrap and are very large

    def _by_key(self, places: Int64[Array, " some"], first: int, last: int) -> Int64[Array, " some"]:
        """The words at some places, sorted: a counting sort, linear in entries and keys.

        As a sparse matrix of one row, entries go from row order to column order.
        """
        row = np.array([0, len(places)], np.int32)
        one_row = csr_array((self._words[places], self._keys[places] - first, row), shape=(1, last - first))
        by_key: Any = one_row.tocsc()
        return by_key.data

    def _decoded(self, words: Int64[Array, " some"], value_type: np.dtype[np.generic]) -> tuple[Array, Array]:
        halves = words.view(np.uint32).reshape(len(words), 2)
        locations = halves[:, _LOCATION].astype(self._location_type)
        locations += self._location_type.type(self._first_location)
        return locations, halves[:, _VALUE].astype(f"u{value_type.itemsize}").view(value_type)


def _result_of(sorting: Future[tuple[Array, Array]]) -> Iterator[tuple[Array, Array]]:
    yield sorting.result()
