"""The entries of a cache in an older layout as a merge reads them, and entries in another type of number."""

import numpy as np
from jaxtyping import Int64

from sae_auto_interp.cache.older_reader import OlderCacheReader
from sae_auto_interp.cache.source import EntrySource
from sae_auto_interp.cache.value_types import as_float32, stored
from sae_auto_interp.types import Array


class OlderSource(EntrySource):
    """Shard after shard, each sorted in memory when its turn comes. bfloat16 comes as float32."""

    def __init__(self, reader: OlderCacheReader) -> None:
        self._reader = reader
        self._shard = 0
        self._next = 0

    def beginning_at(self, feature: int) -> "OlderSource":
        """The same entries from those of `feature` on."""
        found = OlderSource(self._reader)
        while self._reader.shards[found._shard].last < feature:
            found._shard += 1
        found._next = int(self._reader.n_activations[self._reader.shards[found._shard].first : feature].sum())
        return found

    def counts(self, first: int, end: int) -> Int64[Array, " features"]:
        """Number of entries of features `first` to `end` (exclusive)."""
        return self._reader.n_activations[first:end]

    def take(self, n: int, location_type: np.dtype[np.unsignedinteger]) -> tuple[Array, Array]:
        """Locations and activations of the next `n` entries."""
        locations, activations = [np.empty(0, location_type)], []
        while n > 0:
            shard = self._reader.shards[self._shard]
            loaded = self._reader.load(shard)
            end = min(self._next + n, shard.n_activations)
            locations.append(loaded.locations[self._next : end].astype(location_type))
            activations.append(loaded.activations[self._next : end])
            n -= end - self._next
            self._next = end
            if end == shard.n_activations:
                self._shard, self._next = self._shard + 1, 0
        return np.concatenate(locations), np.concatenate(activations or [np.empty(0, np.float32)])


class RetypedSource(EntrySource):
    """Another source's entries, their activations held as `dtype`: `code` says what they come as."""

    def __init__(self, source: EntrySource, code: str, dtype: str) -> None:
        self._source = source
        self._code = code
        self._dtype = dtype

    def beginning_at(self, feature: int) -> "RetypedSource":
        """The same entries from those of `feature` on."""
        return RetypedSource(self._source.beginning_at(feature), self._code, self._dtype)

    def counts(self, first: int, end: int) -> Int64[Array, " features"]:
        """Number of entries of features `first` to `end` (exclusive)."""
        return self._source.counts(first, end)

    def take(self, n: int, location_type: np.dtype[np.unsignedinteger]) -> tuple[Array, Array]:
        """Locations and activations of the next `n` entries; raises `CacheError` for one that does not fit."""
        locations, held = self._source.take(n, location_type)
        return locations, stored(as_float32(held, self._code), self._dtype)
