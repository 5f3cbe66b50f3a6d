"""The top k by a bound that is likely: the k-th largest entry is about the same share of a row's norm from row to row.

About twice k entries of a row reach such a bound, so that all of them can be kept until the row's end. Rows for which
it was no good are seen by their number of entries; nothing is decided by it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from sae_auto_interp.autoencoders.encoding.scan import KEPT_PER_K, Entries, Scan
from sae_auto_interp.autoencoders.encoding.tiles import PreActivations, Tiles, computed
from sae_auto_interp.autoencoders.encoding.workers import Room
from sae_auto_interp.types import Array

LITTLE_LESS = 0.97
MISSED_SHARE = 0.05


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


@dataclass(frozen=True, slots=True)
class Top:
    """What reaches the k-th largest entry of each row."""

    best: Entries
    """In order of row."""
    kth_largest: Float32[Array, " n_rows"]
    """The k-th largest entry; for rows with fewer than k entries, a bound of it."""
    tied: Int64[Array, " n_tied"]
    """Rows of which more than k entries do."""
    missed: Int64[Array, " n_missed"]
    """Rows of which `best` holds too little, for the bound was no good."""


def top_above(pre: PreActivations, k: int, tiles: Tiles, room: Room, bounds: Float32[Array, " n_rows"]) -> Top | None:
    """The top k of the rows that have at least k entries above their bound, which is not below zero.

    None where far too many are.
    """
    n_rows, most = len(bounds), KEPT_PER_K * k
    scan = Scan(n_rows, tiles.columns, room)
    for first, n_columns, tile in computed(pre, tiles.columns, room):
        scan.add(tile.numpy(), n_columns, bounds[:, None], first)
        if scan.n_octets > n_rows * most:
            return None
    found = scan.entries()
    counts = np.bincount(found.rows, minlength=n_rows)
    is_missed = (counts > most) | ((counts < k) & (bounds > 0))
    kth_largest = np.maximum(_kth_largest(found, np.minimum(counts, most), k, room), bounds)
    best = found.where((found.values >= kth_largest[found.rows]) & ~is_missed[found.rows])
    is_tied = np.bincount(best.rows, minlength=n_rows) > k
    return Top(best, kth_largest, np.flatnonzero(is_tied), np.flatnonzero(is_missed))


def _kth_largest(found: Entries, counts: Int64[Array, " n_rows"], k: int, room: Room) -> Float32[Array, " n_rows"]:
    """Return the k-th largest of each row's first `counts` entries (in row order); minus infinity where there are
    fewer."""
    n_columns = max(k, int(counts.max()))
    table = room.array("table", (len(counts), n_columns))
    table.fill(-np.inf)
    begins = np.searchsorted(found.rows, np.arange(len(counts)))
    rank = np.arange(len(found.rows)) - begins[found.rows]
    fits = rank < n_columns
    table[found.rows[fits], rank[fits]] = found.values[fits]
    table.partition(n_columns - k, axis=1)
    return table[:, n_columns - k].copy()
