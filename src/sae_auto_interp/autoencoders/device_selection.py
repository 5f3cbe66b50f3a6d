"""Which pre-activations of a block are kept, on a GPU: what keeps the host from waiting for it, where that can be."""

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor


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
    """The k largest of each row, those that are not above zero as zeros: n·k entries, so that nothing waits."""
    values, columns = block.topk(k, dim=1)
    rows = torch.arange(len(block), device=block.device)[:, None].expand(-1, k)
    return Selected(rows.reshape(-1), columns.reshape(-1), values.clamp(min=0).reshape(-1))
