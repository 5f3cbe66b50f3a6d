"""The n largest keys of each row of a matrix that is never there as a whole, only a block of columns at a time."""

import numpy as np
from jaxtyping import Float64, Int, Int32, Int64

from sae_auto_interp.types import Array

NO_COLUMN = -1
"""Fills up a row that has fewer than n columns to choose from."""


class RunningTop:
    """Holds, per row, the n best columns so far: larger key first, and of equal keys the lower column.

    Blocks of columns come in ascending order. So a key that only equals a row's n-th best is too late, and a caller
    need offer only keys above `threshold`; where the matrix was cut into blocks leaves no trace in the result.
    """

    def __init__(self, n_rows: int, n: int) -> None:
        self.n = n
        self._keys = np.full((n_rows, n), -np.inf)
        self._columns = np.full((n_rows, n), NO_COLUMN, dtype=np.int32)
        self._pending: list[tuple[Array, Array, Array]] = []
        self._n_pending = 0
        self.is_empty = True
        """Nothing was offered yet, so nothing bounds what a caller must offer."""
        self.threshold: Float64[Array, " n_rows"] = self._keys[:, -1].copy()
        """The n-th best key of each row when last settled; minus infinity while a row has fewer."""

    def offer(self, rows: Int[Array, " k"], columns: Int[Array, " k"], keys: Float64[Array, " k"]) -> None:
        """Entries of the next block; within a row, columns in ascending order and above those offered before."""
        row_type = np.min_scalar_type(len(self._keys))  # numpy sorts 16 bits in linear time
        self._pending.append((rows.astype(row_type), columns.astype(np.int32), keys))
        self._n_pending += len(keys)
        if self.is_empty or self._n_pending >= self._keys.size:
            self._settle()
        self.is_empty = False

    def best(self) -> tuple[Int64[Array, "n_rows n"], Float64[Array, "n_rows n"]]:
        """Columns and keys of each row, best first, filled up with NO_COLUMN and minus infinity."""
        self._settle()
        return self._columns.astype(np.int64), self._keys

    def _settle(self) -> None:
        """Take what is pending into the n best, a few rows at a time where one of them has very many."""
        if not self._n_pending:
            return
        rows, columns, keys = (np.concatenate(parts) for parts in zip(*self._pending, strict=True))
        order = np.argsort(rows, kind="stable")
        columns, keys = columns[order], keys[order]
        counts = np.bincount(rows, minlength=len(self._keys))
        ends = np.cumsum(counts)
        first = 0
        while first < len(counts):
            widest = np.maximum.accumulate(counts[first:])
            n_rows = max(1, int(np.searchsorted(widest * np.arange(1, len(widest) + 1), 2 * self._keys.size)))
            some = slice(first, first + n_rows)
            begin = int(ends[first]) - int(counts[first])
            end = int(ends[some][-1])
            self._take_in(some, counts[some], columns[begin:end], keys[begin:end])
            first += n_rows
        self.threshold = self._keys[:, -1].copy()
        self._pending, self._n_pending = [], 0

    def _take_in(
        self, some: slice, counts: Int64[Array, " m"], columns: Int32[Array, " k"], keys: Float64[Array, " k"]
    ) -> None:
        """Pending entries of some neighbouring rows, row by row. In `wide` equal keys stand in order of column."""
        if len(keys) == 0:
            return
        rank = np.arange(len(keys)) - np.repeat(np.cumsum(counts) - counts, counts)
        places = np.repeat(np.arange(len(counts)), counts), self.n + rank
        shape = len(counts), self.n + int(counts.max())
        wide = np.full(shape, -np.inf)
        wide[:, : self.n], wide[places] = self._keys[some], keys
        wide_columns = np.full(shape, NO_COLUMN, dtype=np.int32)
        wide_columns[:, : self.n], wide_columns[places] = self._columns[some], columns
        best = np.argsort(-wide, axis=1, kind="stable")[:, : self.n]
        self._keys[some] = np.take_along_axis(wide, best, axis=1)
        self._columns[some] = np.take_along_axis(wide_columns, best, axis=1)
