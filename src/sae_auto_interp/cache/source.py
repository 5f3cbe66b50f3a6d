"""Entries of one module in the order of the store, from files of whatever split: what a merge reads.

Both a run and a shard are such a file: `offsets` say where each feature's `locations` and `activations` lie.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from sae_auto_interp.cache.arrays import ArrayFile
from sae_auto_interp.types import Array


@dataclass(frozen=True, slots=True)
class Piece:
    """A file with features `first` to `last` (inclusive); the feature `first` is the file's `first_key`-th."""

    file: ArrayFile
    first: int
    last: int
    first_key: int = 0

    def offsets(self, first: int, end: int) -> Int64[Array, " features_plus_1"]:
        """Where the entries of features `first` to `end` (exclusive) begin; raises `CacheError` for nonsense."""
        begin = self.first_key + first - self.first
        offsets = self.file.read("offsets", begin, begin + end - first + 1).astype(np.int64)
        (n_entries,) = self.file.shape("locations")
        if not 0 <= offsets[0] <= offsets[-1] <= n_entries or (np.diff(offsets) < 0).any():
            raise self.file.unreadable("its offsets are damaged")
        return offsets


class EntrySource:
    """The entries of all features, feature by feature, each sorted by location; read from front to back.

    `shift` is added to every location.
    """

    def __init__(self, pieces: Sequence[Piece], shift: int = 0) -> None:
        self._pieces = pieces
        self._shift = shift
        self._enter(0)

    def beginning_at(self, feature: int) -> "EntrySource":
        """The same entries from those of `feature` on, read independently of this one."""
        found = EntrySource(self._pieces, self._shift)
        at = next(i for i, piece in enumerate(self._pieces) if piece.first <= feature <= piece.last)
        found._enter(at)
        found._next = int(self._pieces[at].offsets(feature, feature)[0])
        return found

    def counts(self, first: int, end: int) -> Int64[Array, " features"]:
        """Number of entries of features `first` to `end` (exclusive)."""
        parts = [
            np.diff(piece.offsets(max(first, piece.first), min(end, piece.last + 1)))
            for piece in self._pieces
            if piece.first < end and first <= piece.last
        ]
        return np.concatenate(parts)

    def locations_of(self, feature: int) -> Int64[Array, " n"]:
        """The locations of one feature alone; leaves the place of `take` as it is."""
        (piece,) = (piece for piece in self._pieces if piece.first <= feature <= piece.last)
        begin, end = piece.offsets(feature, feature + 1).tolist()
        return piece.file.read("locations", begin, end).astype(np.int64) + self._shift

    def take(self, n: int, location_type: np.dtype[np.unsignedinteger]) -> tuple[Array, Array]:
        """Locations and stored activations of the next `n` entries."""
        locations: list[Array] = []
        activations: list[Array] = []
        while n > 0:
            if self._next == self._end:
                self._enter(self._at + 1)
            end = min(self._next + n, self._end)
            file = self._pieces[self._at].file
            locations.append(file.read("locations", self._next, end))
            activations.append(file.read("activations", self._next, end))
            n -= end - self._next
            self._next = end
        shifted = _joined(locations, location_type).astype(location_type, copy=False)
        if self._shift:
            shifted = shifted + location_type.type(self._shift)
        return shifted, _joined(activations, np.dtype(np.float32))

    def _enter(self, at: int) -> None:
        """Go to the first entry of a piece."""
        piece = self._pieces[at]
        self._at = at
        self._next, self._end = (int(piece.offsets(feature, feature)[0]) for feature in (piece.first, piece.last + 1))


def _joined(parts: Sequence[Array], type_of_none: np.dtype[np.generic]) -> Array:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, type_of_none)
