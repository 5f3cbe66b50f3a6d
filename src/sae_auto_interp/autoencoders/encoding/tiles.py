"""Pre-activations of a block of rows, computed a tile of columns at a time.

A tile stays in the processor's cache while what may be kept is taken out of it; all columns never exist together.

Matrix products on a CPU in which no row's bits depend on how many rows there are.

A product of many rows is divided among threads, and each thread's part is computed by kernels that add up every row in
the same order; only parts of few rows (below four in MKL 2024) are computed by others, which add up in another order.
The last bit of a number then differs, and about one in 300 of the float16 values that are stored. So few rows are made
more, by rows of zeros: what is cached does not depend on the batch size, or on which rows share a batch.

On a GPU the kernel is chosen by the shape, and nothing is promised.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from sae_auto_interp.autoencoders.encoding.scan import OCTET
from sae_auto_interp.autoencoders.encoding.workers import Room
from sae_auto_interp.types import Array

PIECE = 32
"""Neighbouring columns that share one maximum, from which a first bound of the top k is found."""


TILE_COLUMNS = 2080
"""Columns of a tile, about; many more where k is large, for a tile has at least two pieces for each wanted entry."""


TILE_ENTRIES = 9 << 17
"""Pre-activations of a tile, at most: 4.5 MiB; but it has no fewer than LEAST_ROWS."""


MOST_ROWS, LEAST_ROWS = 512, 16


WHOLE_ENTRIES = 1 << 23
"""Pre-activations of rows that are sorted whole, at a time: 32 MiB."""


@runtime_checkable
class PreActivations(Protocol):
    """Rows whose pre-activations are computed when they are asked for."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    def compute(self, first: int, last: int, out: Float32[Tensor, "n columns"]) -> None:
        """Write those of the columns from `first` to `last` (exclusive)."""
        ...

    def norms(self) -> Float32[Array, " n"]:
        """The norms of the rows' activations, or of what they are as large as."""
        ...

    def of_rows(self, rows: slice | Int64[Array, " some"]) -> "PreActivations":
        """The same of some rows."""
        ...


@dataclass(frozen=True, slots=True)
class Tiles:
    """How many rows are encoded together, and in which steps their columns are taken."""

    rows: int
    columns: int
    """A multiple of 8, unless rows are sorted whole."""
    piece: int = OCTET
    """`columns` is a multiple of it."""


def tiles_for(width: int, k: int | None) -> Tiles:
    """For the top `k`, or for a threshold. An odd number of pieces, so that rows fall on different cache sets."""
    if k is None:
        return _tiles(min(-(-width // OCTET), max(1, TILE_COLUMNS // OCTET)) * OCTET, OCTET)
    if is_sorted_whole(width, k):
        return Tiles(max(1, WHOLE_ENTRIES // width), width)
    n_pieces = min(max(2 * k, TILE_COLUMNS // PIECE) | 1, -(-width // PIECE))
    return _tiles(n_pieces * PIECE, PIECE)


def is_sorted_whole(width: int, k: int) -> bool:
    """Whether so much of a row is wanted that looking for candidates would gain nothing."""
    return width // PIECE < 2 * k


def computed(pre: PreActivations, columns: int, room: Room) -> Iterator[tuple[int, int, Float32[Tensor, "n columns"]]]:
    """Tile by tile: its first column, how many there are, and the numbers; in the last, others may follow them.

    Each tile overwrites the one before.
    """
    n, width = pre.shape
    tile = torch.from_numpy(room.array("tile", (n, columns)))
    for first in range(0, width, columns):
        n_columns = min(columns, width - first)
        pre.compute(first, first + n_columns, tile[:, :n_columns])
        yield first, n_columns, tile


def _tiles(columns: int, piece: int) -> Tiles:
    return Tiles(min(MOST_ROWS, max(LEAST_ROWS, TILE_ENTRIES // columns)), columns, piece)


ROWS_PER_THREAD = 8
"""As many are divided evenly enough that no thread has few."""


def product(
    x: Float32[Tensor, "n d_in"],
    weights: Float32[Tensor, "columns d_in"],
    out: Float32[Tensor, "n columns"] | None = None,
    bias: Float32[Tensor, " columns"] | None = None,
) -> Float32[Tensor, "n columns"]:
    """`x` times `weights` transposed, plus `bias`, into `out` where there is one."""
    n, least = len(x), ROWS_PER_THREAD * torch.get_num_threads()
    if n >= least or x.device.type != "cpu":
        return _product(x, weights, out, bias)
    padded = x.new_zeros(least, x.shape[1])
    padded[:n] = x
    found = _product(padded, weights, None, bias)[:n]
    return found if out is None else out.copy_(found)


def _product(x: Tensor, weights: Tensor, out: Tensor | None, bias: Tensor | None) -> Tensor:
    if bias is None:
        return torch.mm(x, weights.t(), out=out)
    return torch.addmm(bias, x, weights.t(), out=out)
