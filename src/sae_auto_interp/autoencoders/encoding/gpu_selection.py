"""Which pre-activations of a block are kept, on a GPU: what keeps the host from waiting for it, where that can be.

The k largest of a wide row lie in the k pieces whose maxima are the largest: a row is read once for its maxima, and the
rest is done on its k pieces. `torch.topk` alone would read the row several times. A piece is every n-th column, not
neighbours: so threads side by side read numbers side by side.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

NARROW = 1 << 12
"""Rows of no more columns go to `torch.topk` whole."""
PIECE = 16
"""Columns in a piece."""


@dataclass(frozen=True, slots=True)
class Selected:
    """Kept entries of a block of rows, in order of row. Some values may be zero, and stand for no entry."""

    rows: Int64[Tensor, " nnz"]
    columns: Int64[Tensor, " nnz"]
    values: Float32[Tensor, " nnz"]


def select_above(block: Float32[Tensor, "n width"], threshold: Float32[Tensor, " width"] | float) -> Selected:
    """The entries above `threshold`; waits for their number."""
    rows, columns = (block > threshold).nonzero(as_tuple=True)
    return Selected(rows, columns, block[rows, columns])


def select_topk(block: Float32[Tensor, "n width"], k: int) -> Selected:
    """The k largest of each row, those that are not above zero as zeros: n·k entries, so that nothing waits.

    Within a row they are in no order, and of entries that equal the k-th largest any may be kept.
    """
    is_wide = block.shape[1] > NARROW and block.shape[1] >= 4 * PIECE * k
    values, columns = _largest_of_pieces(block, k) if is_wide else _largest(block, k)
    rows = torch.arange(len(block), device=block.device)[:, None].expand(-1, k)
    return Selected(rows.reshape(-1), columns.reshape(-1), values.clamp(min=0).reshape(-1))


def _largest_of_pieces(block: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and columns, both [n, k]. The columns behind the last whole piece are looked at one by one."""
    n, width = block.shape
    n_pieces = width // PIECE
    pieces = block[:, : PIECE * n_pieces].unflatten(1, (PIECE, n_pieces))
    best = pieces.amax(dim=1).topk(k, dim=1, sorted=False).indices[:, None]
    within = torch.arange(PIECE, device=block.device)[:, None]
    rest = torch.arange(PIECE * n_pieces, width, device=block.device).expand(n, -1)
    columns = torch.cat([(best + within * n_pieces).flatten(1), rest], dim=1)
    values, places = _largest(block.gather(1, columns), k)
    return values, columns.gather(1, places)


def _largest(block: Tensor, k: int) -> tuple[Tensor, Tensor]:
    values, columns = block.topk(k, dim=1, sorted=False)
    return values, columns
