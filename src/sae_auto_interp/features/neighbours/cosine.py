"""The features whose directions are most alike: top n by cosine, in memory that does not grow with the width squared.

Unit rows are rounded to multiples of 2^-26. Their products are then multiples of 2^-52, and by Cauchy-Schwarz every sum
of products on the way to a cosine is at most about 1: each is a float64 exactly, in whatever order a matrix product
adds. So a tile's shape, the number of threads and the BLAS change no bit of a cosine, equal directions tie exactly, and
the screening needs no tolerance. The rounding moves a cosine by less than sqrt(d) * 2^-26, which is float32's own size.
"""

from collections.abc import Iterable
from typing import SupportsIndex

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from sae_auto_interp.errors import InputError
from sae_auto_interp.features.neighbours import check_n, chosen_features
from sae_auto_interp.features.neighbours.running_top import NO_COLUMN, RunningTop
from sae_auto_interp.types import Array

UNIT = 2.0**26
"""A unit row in these steps."""
PREPARED_ROWS = 4096
"""Rows rounded at a time. Not the caller's to choose: a norm is summed in the same order always."""


def cosine_neighbours(
    vectors: Float32[Array, "width d"],
    n: int,
    *,
    features: Iterable[SupportsIndex] | None = None,
    block_rows: int = 1024,
) -> tuple[Int64[Array, "m n"], Float32[Array, "m n"]]:
    """The n rows of `vectors` most alike each of `features` (None: all), and their cosines; best first.

    A feature is never its own neighbour, however many rows equal it; of equal cosines the lower index comes first. A
    row of zeros has no direction: it has no neighbours and is nobody's. Where there are fewer than n, the rest is -1
    and NaN. `block_rows` decides memory (some block_rows^2 numbers) and speed, and nothing else. Raises `InputError`
    for NaN or infinite rows, for features that are not there or come twice, and for n below 1.
    """
    check_n(n)
    if block_rows < 1:
        raise InputError(f"block_rows={block_rows}; give at least 1")
    chosen = chosen_features(features, len(vectors))
    directions, alive = _directions(vectors)
    place = np.full(len(vectors), -1)
    place[alive] = np.arange(len(alive))
    has_direction = place[chosen] >= 0
    if features is None:
        columns, keys = _among_all(directions, n, block_rows)
    else:
        columns, keys = _against_all(directions, place[chosen[has_direction]], n, block_rows)
    indices = np.full((len(chosen), n), -1, dtype=np.int64)
    cosines = np.full((len(chosen), n), np.nan, dtype=np.float32)
    is_found = columns != NO_COLUMN
    indices[has_direction] = np.where(is_found, alive[columns], -1) if len(alive) else -1
    cosines[has_direction] = np.where(is_found, np.clip(keys / UNIT**2, -1, 1), np.nan)
    return indices, cosines


def _directions(vectors: Float32[Array, "width d"]) -> tuple[Int32[Array, "alive d"], Int64[Array, " alive"]]:
    """Unit rows in steps of 2^-26, of the rows that are not zero, and which these are."""
    norms = np.empty(len(vectors))
    for first in range(0, len(vectors), PREPARED_ROWS):
        rows = vectors[first : first + PREPARED_ROWS].astype(np.float64)
        norms[first : first + len(rows)] = np.sqrt(np.square(rows).sum(axis=1))
    bad = np.flatnonzero(~np.isfinite(norms))
    if len(bad):
        raise InputError(f"row {bad[0]} of the vectors holds NaN or infinite values ({len(bad)} such rows); mend them")
    alive = np.flatnonzero(norms)
    directions = np.empty((len(alive), vectors.shape[1]), dtype=np.int32)
    for first in range(0, len(alive), PREPARED_ROWS):
        rows = alive[first : first + PREPARED_ROWS]
        directions[first : first + len(rows)] = np.rint(vectors[rows] / norms[rows, None] * UNIT)
    return directions, alive


def _among_all(
    directions: Int32[Array, "alive d"], n: int, block_rows: int
) -> tuple[Int64[Array, "alive n"], Float64[Array, "alive n"]]:
    """Every row's best. A tile serves its rows and, transposed, its columns: half the products do.

    Row by row of tiles, from the diagonal on: so each block of rows meets its columns in ascending order.
    """
    firsts = range(0, len(directions), block_rows)
    tops = [RunningTop(min(block_rows, len(directions) - first), n) for first in firsts]
    for i, first in enumerate(firsts):
        own = directions[first : first + block_rows].astype(np.float64)
        for j in range(i, len(firsts)):
            tile = own @ directions[firsts[j] : firsts[j] + block_rows].astype(np.float64).T
            if i == j:
                np.fill_diagonal(tile, -np.inf)
            _offer(tops[i], tile, firsts[j])
            if i != j:
                _offer(tops[j], tile, first, transposed=True)
    return _joined(tops, n)


def _against_all(
    directions: Int32[Array, "alive d"], chosen: Int64[Array, " m"], n: int, block_rows: int
) -> tuple[Int64[Array, "m n"], Float64[Array, "m n"]]:
    """The best of the chosen rows alone."""
    tops: list[RunningTop] = []
    for begin in range(0, len(chosen), block_rows):
        rows = chosen[begin : begin + block_rows]
        own = directions[rows].astype(np.float64)
        tops.append(RunningTop(len(rows), n))
        for first in range(0, len(directions), block_rows):
            tile = own @ directions[first : first + block_rows].astype(np.float64).T
            is_here = (rows >= first) & (rows < first + block_rows)
            tile[is_here, rows[is_here] - first] = -np.inf
            _offer(tops[-1], tile, first)
    return _joined(tops, n)


def _offer(top: RunningTop, tile: Float64[Array, "a b"], first_column: int, *, transposed: bool = False) -> None:
    """What of a tile may be among the n best. `transposed`: the tile's columns are the rows of `top`."""
    threshold = top.threshold
    axis = 0 if transposed else 1
    if top.is_empty and tile.shape[axis] >= top.n:
        nth = np.partition(tile, -top.n, axis=axis).take(-top.n, axis=axis)
        threshold = np.nextafter(nth, -np.inf)
    is_above = tile > (threshold if transposed else threshold[:, None])
    places = np.flatnonzero(is_above)
    if len(places):
        a, b = np.divmod(places, tile.shape[1])
        rows, columns = (b, a) if transposed else (a, b)
        top.offer(rows, columns + first_column, tile.ravel()[places])


def _joined(tops: list[RunningTop], n: int) -> tuple[Int64[Array, "m n"], Float64[Array, "m n"]]:
    if not tops:
        return np.empty((0, n), dtype=np.int64), np.empty((0, n))
    columns, keys = zip(*(top.best() for top in tops), strict=True)
    return np.concatenate(columns), np.concatenate(keys)
