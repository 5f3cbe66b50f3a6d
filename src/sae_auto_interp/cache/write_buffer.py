"""Activations on their way to disk: one bounded pool, spilled as feature-sorted runs, with a journal.

A run holds, for all modules together, `offsets` [features of all modules + 1], `locations` and `activations`, sorted
by module, feature and location. The journal gains a line only after a run is safely on disk; what is not in the
journal is thrown away on the next opening, and the caller starts again from `rows_done`. However many tokens pass
through, and however fast, memory is that of the pool and of the pieces that are sorted.
"""

import time
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Int64

from sae_auto_interp.cache.arrays import ArrayFile, ArrayWriter
from sae_auto_interp.cache.files import crc32_of, writing
from sae_auto_interp.cache.journal import Journal, Promise
from sae_auto_interp.cache.layout import location_dtype
from sae_auto_interp.cache.pool import BYTES_PER_ENTRY, EntryPool
from sae_auto_interp.cache.source import EntrySource, Piece
from sae_auto_interp.cache.value_types import CODE_OF, HELD_AS, activation_code, stored
from sae_auto_interp.errors import CacheError
from sae_auto_interp.types import Array

LEAST_ENTRIES = 1 << 16
LEAST_LOSS_SECONDS = 5.0
LEAST_LOSS_FRACTION = 0.01
"""A kill costs at most this much work (the larger of the two), however large the pool is."""


class WriteBuffer:
    """Where a streaming writer puts activations. Opening an existing directory resumes it.

    `widths` gives {module path: width}; `dtype` is float16, bfloat16 or float32; the pool has `max_bytes`, and 0 makes
    every commit a run; `clock` counts seconds. Raises `CacheError` when the directory belongs to other work (another
    `fingerprint`), or when its journal or a run in it is lost or damaged.
    """

    def __init__(
        self,
        directory: Path,
        widths: Mapping[str, int],
        *,
        n_positions: int,
        dtype: str,
        max_bytes: int,
        fingerprint: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._began = self._spilled_at = clock()
        self.directory = directory
        self.widths = dict(widths)
        self.location_dtype = location_dtype(n_positions)
        self._n_positions = n_positions
        self._dtype = dtype
        self._code = activation_code(dtype)
        self._first_key = dict(zip(widths, accumulate(widths.values(), initial=0), strict=False))
        self._always_spill = max_bytes == 0
        capacity = max(LEAST_ENTRIES, max_bytes // BYTES_PER_ENTRY)
        self._pool = EntryPool(capacity, sum(widths.values()), self.location_dtype)
        self._largest_batch = self._n_in_batch = 0
        self._unpromised: list[int] = []
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(directory, fingerprint, list(widths))
        self._n_verified = 0
        self._discard_unpromised()
        self._verify_runs()

    @property
    def rows_done(self) -> int:
        """Every entry of the rows before this one is on disk."""
        return self._journal.promises[-1].rows_done if self._journal.promises else 0

    @property
    def n_runs(self) -> int:
        return sum(len(promise.runs) for promise in self._journal.promises)

    def append(
        self, module: str, features: Int[Array, " n"], locations: Int64[Array, " n"], activations: Float[Array, " n"]
    ) -> None:
        """Add entries of one module; locations must be in order, and not smaller than any given of it before.

        Raises `CacheError` for an activation that the stored type cannot hold, and when the disk is full.
        """
        if len(features) == 0:
            return
        self._check(module, features, locations)
        values = stored(activations, self._dtype)
        done = 0
        while done < len(features):
            rest = slice(done, None)
            taken = self._pool.take(self._first_key[module], features[rest], locations[rest], values[rest])
            done += taken
            if done < len(features):
                self._spill()
        self._n_in_batch += len(features)

    def commit(self, rows_done: int, *, last: bool = False) -> None:
        """All modules hold everything up to `rows_done`; spill when the next batch may not fit, in time, or at the end.

        Raises `CacheError` when the disk is full.
        """
        self._largest_batch = max(self._largest_batch, self._n_in_batch)
        self._n_in_batch = 0
        is_full = self._pool.n + self._largest_batch > self._pool.capacity
        if not (is_full or last or self._always_spill or self._unpromised or self._is_time()):
            return
        if self._pool.n:
            self._spill()
        self._journal.promise(Promise(rows_done, tuple(self._unpromised)))
        self._n_verified += len(self._unpromised)
        self._unpromised = []
        self._spilled_at = self._clock()
        if last:
            self._pool.release()

    def sources(self, module: str) -> list[EntrySource]:
        """What each run holds of one module, in order of location; raises `CacheError` when one is lost or damaged."""
        self._verify_runs()
        first_key, width = self._first_key[module], self.widths[module]
        paths = [self._run_path(number) for number in range(self.n_runs)]
        return [EntrySource([Piece(self._run(path), 0, width - 1, first_key)]) for path in paths]

    def locations(self, module: str, feature: int) -> Int64[Array, " n"]:
        """Where one feature of a module fires, in order; raises what `sources` does."""
        return np.concatenate(
            [np.empty(0, np.int64), *(source.locations_of(feature) for source in self.sources(module))]
        )

    def _check(self, module: str, features: Int[Array, " n"], locations: Int64[Array, " n"]) -> None:
        """What would end among the entries of others is a fault of the caller."""
        low, high = int(features.min()), int(features.max())
        assert 0 <= low <= high < self.widths[module], f"features {low} to {high} of {module}"
        first, last = int(locations[0]), int(locations[-1])
        assert 0 <= first <= last < self._n_positions, f"locations {first} to {last} of {self._n_positions}"

    def _spill(self) -> None:
        """Write the pool's entries as the next run, which nothing promises yet."""
        path = self._run_path(self.n_runs + len(self._unpromised))
        offsets, n = self._pool.offsets(), self._pool.n
        arrays = {
            "offsets": ("U32", offsets.shape),
            "locations": (CODE_OF[self.location_dtype], (n,)),
            "activations": (self._code, (n,)),
        }
        with ArrayWriter(path, arrays) as run:
            run.append("offsets", offsets.astype(np.uint32))
            for locations, activations in self._pool.sorted_pieces(offsets, HELD_AS[self._code]):
                run.append("locations", locations)
                run.append("activations", activations)
        self._pool.clear()
        self._unpromised.append(crc32_of(path))

    def _is_time(self) -> bool:
        """Whether a kill now would cost too much; the growing interval keeps the number of runs small."""
        now = self._clock()
        return now - self._spilled_at >= max(LEAST_LOSS_SECONDS, LEAST_LOSS_FRACTION * (now - self._began))

    def _run_path(self, number: int) -> Path:
        return self.directory / f"run{number:05d}.safetensors"

    def _run(self, path: Path) -> ArrayFile:
        file = ArrayFile(path)
        n = file.shape("locations")
        file.require(
            {
                "offsets": ("U32", (self._pool.n_keys + 1,)),
                "locations": (CODE_OF[self.location_dtype], n),
                "activations": (self._code, n),
            }
        )
        return file

    def _discard_unpromised(self) -> None:
        kept = {self._run_path(number) for number in range(self.n_runs)}
        for path in self.directory.glob("*run*.safetensors*"):
            if path not in kept:
                path.unlink()

    def _verify_runs(self) -> None:
        """Compare the runs that were not yet looked at with the journal's checksums."""
        checksums = [checksum for promise in self._journal.promises for checksum in promise.runs]
        for number in range(self._n_verified, len(checksums)):
            path = self._run_path(number)
            if not path.is_file():
                raise CacheError(f"the half-finished cache lost {path}; delete {self.directory} and cache again")
            if crc32_of(path) != checksums[number]:
                raise CacheError(
                    f"{path} is damaged: its checksum is not the journal's; delete {self.directory} and cache again"
                )
        self._n_verified = len(checksums)
