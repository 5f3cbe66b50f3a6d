"""Per-feature statistics, accumulated while the merged entries stream by; and the file that keeps them.

Sums depend on the order of adding in their last bits. So that they do not depend on the sizes of buffers or on how
many runs there were, entries come in canonical chunks: at most `CHUNK_ENTRIES` of one feature at a time, counted from
the feature's first, and a feature of no more than that in one piece. Within a chunk numpy sums pairwise.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64

from sae_auto_interp.cache.arrays import ArrayFile
from sae_auto_interp.cache.layout import location_dtype, write_arrays
from sae_auto_interp.cache.value_types import CODE_OF
from sae_auto_interp.types import Array

CHUNK_ENTRIES = 1 << 20
POSITION_TOTALS = "position_totals"
COUNTS = ("n_activations", "n_active_rows")
PER_FEATURE = (*COUNTS, "max", "sum", "sum_of_squares")


class Statistics:
    """Statistics of `width` features over rows of `ctx_len` positions. Values are those stored, not those before
    rounding.

    `n_activations`; `n_active_rows`, the rows in which the feature fires; `max` (0 for a feature that never fires);
    `sum`; `sum_of_squares`, each [width]; and `position_totals` [ctx_len], the activations at each position of the
    rows, of all features together.
    """

    def __init__(self, width: int, ctx_len: int) -> None:
        self.ctx_len = ctx_len
        self.n_activations: Int64[Array, " width"] = np.zeros(width, np.int64)
        self.n_active_rows: Int64[Array, " width"] = np.zeros(width, np.int64)
        self.max: Float64[Array, " width"] = np.zeros(width)
        self.sum: Float64[Array, " width"] = np.zeros(width)
        self.sum_of_squares: Float64[Array, " width"] = np.zeros(width)
        self.position_totals: Int64[Array, " ctx_len"] = np.zeros(ctx_len, np.int64)
        self._last = (-1, -1)

    @classmethod
    def joined(cls, parts: Sequence["Statistics"]) -> "Statistics":
        """Those of successive ranges of features, one behind the other."""
        whole = cls(0, parts[0].ctx_len)
        for name in PER_FEATURE:
            setattr(whole, name, np.concatenate([getattr(part, name) for part in parts]))
        whole.position_totals = np.sum([part.position_totals for part in parts], axis=0)
        return whole

    def add(
        self, first: int, counts: Int64[Array, " features"], locations: Array, activations: Float32[Array, " n"]
    ) -> None:
        """Entries of the features from `first` on, `counts` of each, feature by feature and by location.

        Chunks come in order; one feature may go on in the next chunk.
        """
        if len(locations) == 0:
            return
        fires = np.flatnonzero(counts)
        starts = (np.cumsum(counts) - counts)[fires]
        features = first + fires
        is_new = self.n_activations[features] == 0
        self.n_activations[features] += counts[fires]
        values = activations.astype(np.float64)
        largest = np.maximum.reduceat(values, starts)
        self.max[features] = np.where(is_new, largest, np.maximum(largest, self.max[features]))
        self.sum[features] += np.add.reduceat(values, starts)
        np.multiply(values, values, out=values)
        self.sum_of_squares[features] += np.add.reduceat(values, starts)
        self._add_places(features, starts, locations)

    def _add_places(self, features: Int64[Array, " fires"], starts: Int64[Array, " fires"], locations: Array) -> None:
        if self.ctx_len > np.iinfo(locations.dtype).max:
            locations = locations.astype(np.uint64)
        ctx_len = locations.dtype.type(self.ctx_len)
        rows = locations // ctx_len
        is_new_row = np.empty(len(rows), dtype=np.int32)
        np.not_equal(rows[1:], rows[:-1], out=is_new_row[1:])
        is_new_row[starts] = 1
        is_new_row[0] = self._last != (int(features[0]), int(rows[0]))
        self.n_active_rows[features] += np.add.reduceat(is_new_row, starts)
        self._last = int(features[-1]), int(rows[-1])
        positions = (locations - rows * ctx_len).astype(np.int64)
        self.position_totals += np.bincount(positions, minlength=self.ctx_len)

    def save(self, path: Path, n_positions: int) -> None:
        """Write the file; counts in the narrowest type that holds as many as there are positions."""
        count_type = location_dtype(n_positions + 1)
        arrays = {name: getattr(self, name).astype(count_type) for name in COUNTS}
        arrays |= {"max": self.max.astype(np.float32), "sum": self.sum, "sum_of_squares": self.sum_of_squares}
        write_arrays(path, arrays | {POSITION_TOTALS: self.position_totals})


def read_statistics(file: ArrayFile, width: int, n_positions: int, ctx_len: int) -> dict[str, Array]:
    """The arrays of a statistics file, as int64 and float64; raises `CacheError` for a damaged or foreign one."""
    count_code = CODE_OF[location_dtype(n_positions + 1)]
    codes = dict.fromkeys(COUNTS, count_code) | {"max": "F32", "sum": "F64", "sum_of_squares": "F64"}
    expected = {name: (code, (width,)) for name, code in codes.items()}
    file.require(expected | {POSITION_TOTALS: ("I64", (ctx_len,))})
    return _widened({name: file.read(name) for name in (*expected, POSITION_TOTALS)})


def _widened(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array.astype(np.float64 if array.dtype.kind == "f" else np.int64) for name, array in arrays.items()}
