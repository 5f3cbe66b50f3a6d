"""Which entries of a block of pre-activations are kept: those above a threshold, or each row's exact top k.

The top k is found without sorting the width. The maximum of every 32 neighbouring columns (a piece) is taken while the
block is in the processor's cache; the k-th largest maximum of a few hundred groups of pieces is a lower bound of the
row's k-th largest entry, so only the pieces that reach it, hardly more than k of them, are looked at again.
Where several entries equal the k-th largest, those are kept that `torch.topk` keeps of the same row.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from sae_auto_interp.types import Array

PIECE = 32
"""Neighbouring columns that share one maximum: two cache lines."""
GROUPS_PER_K = 8
"""Groups of pieces, for each wanted entry, that the bound is taken from: more cost more, fewer bound less."""
CANDIDATES_PER_K = 8
"""Candidates for each wanted entry beyond which whole rows are sorted instead: nearly all values are equal then."""
_LEAST_ABOVE_ZERO = np.finfo(np.float32).smallest_subnormal


@dataclass(frozen=True, slots=True)
class Selected:
    """Kept entries of a block of rows, in order of row."""

    rows: Int64[Tensor, " nnz"]
    columns: Int64[Tensor, " nnz"]
    values: Float32[Tensor, " nnz"]


def select_above(
    block: Float32[Tensor, "n width"], threshold: Float32[Tensor, " width"] | float, room: Bool[Tensor, "n width"]
) -> Selected:
    """The entries above `threshold`; `room` is where the comparison is written."""
    fires = torch.gt(block, threshold, out=room)
    if block.device.type != "cpu":
        rows, columns = fires.nonzero(as_tuple=True)
    else:
        places = torch.from_numpy(np.flatnonzero(fires.numpy()))  # several times faster than torch's own
        rows = places.div(block.shape[1], rounding_mode="floor")
        columns = places - rows * block.shape[1]
    return Selected(rows, columns, block[rows, columns])


def select_topk(block: Float32[Tensor, "n padded"], width: int, k: int, relu_first: bool = False) -> Selected:
    """The entries above zero among the k largest of each row; columns from `width` on hold minus infinity.

    `relu_first` looks for the k largest after a ReLU, which decides nothing but which of equal entries are kept.

    `padded` is a multiple of PIECE. On another device than a CPU the result has n·k entries, some of them zero:
    to leave those out, the processor would have to wait for the device.
    """
    if block.device.type != "cpu":
        return _topk_without_waiting(block[:, :width], k)
    if width // PIECE < 2 * k:
        return _topk_of_whole_rows(block[:, :width], k, relu_first)
    bound, maxima = _lower_bound(block, k)
    candidates = _entries_reaching(bound, block, maxima)
    if len(candidates.rows) == 0:
        return candidates
    if len(candidates.rows) > CANDIDATES_PER_K * k * len(block):
        return _topk_of_whole_rows(block[:, :width], k, relu_first)
    return _best(candidates, block[:, :width], k, relu_first)


def _topk_without_waiting(block: Float32[Tensor, "n width"], k: int) -> Selected:
    values, columns = block.topk(k, dim=1)
    rows = torch.arange(len(block), device=block.device)[:, None].expand(-1, k)
    return Selected(rows.reshape(-1), columns.reshape(-1), values.clamp(min=0).reshape(-1))


def _topk_of_whole_rows(block: Float32[Tensor, "n width"], k: int, relu_first: bool) -> Selected:
    values, columns = (block.relu() if relu_first else block).topk(k, dim=1)
    fires = values > 0
    return Selected(fires.nonzero()[:, 0], columns[fires], values[fires])


def _lower_bound(
    block: Float32[Tensor, "n padded"], k: int
) -> tuple[Float32[Array, " n"], Float32[Tensor, "n pieces"]]:
    """What at least k entries of each row reach (or the least value above zero), and the maximum of each piece."""
    maxima = block.unflatten(1, (-1, PIECE)).amax(2)
    per_group = max(1, maxima.shape[1] // (GROUPS_PER_K * k))
    n_groups = maxima.shape[1] // per_group  # pieces beyond the last whole group only make the bound lower
    groups = maxima[:, : n_groups * per_group].unflatten(1, (n_groups, per_group)).amax(2).numpy()
    kth_largest = np.partition(groups, n_groups - k, axis=1)[:, n_groups - k]
    return np.maximum(kth_largest, _LEAST_ABOVE_ZERO), maxima


def _entries_reaching(
    bound: Float32[Array, " n"], block: Float32[Tensor, "n padded"], maxima: Float32[Tensor, "n pieces"]
) -> Selected:
    """All entries of each row that reach its bound: those that are of the top k, and the few others between."""
    n_pieces = maxima.shape[1]
    pieces = np.flatnonzero(maxima.numpy() >= bound[:, None])
    owners = pieces // n_pieces
    values = block.view(-1, PIECE).index_select(0, torch.from_numpy(pieces)).numpy()
    reaching = np.flatnonzero(values >= bound[owners, None])
    of_piece, within = np.divmod(reaching, PIECE)
    columns = (pieces - owners * n_pieces)[of_piece] * PIECE + within
    found = owners[of_piece], columns, values.reshape(-1)[reaching]
    return Selected(*map(torch.from_numpy, found))


def _best(candidates: Selected, block: Float32[Tensor, "n width"], k: int, relu_first: bool) -> Selected:
    """The k largest candidates of each row; rows with equal values at the k-th place are left to `torch.topk`."""
    n = len(block)
    counts = torch.bincount(candidates.rows, minlength=n)
    starts = counts.cumsum(0) - counts
    within = torch.arange(len(candidates.rows)) - starts[candidates.rows]
    table = torch.full((n, max(k + 1, int(counts.max()))), -torch.inf)
    table[candidates.rows, within] = candidates.values
    values, places = table.topk(k + 1, dim=1)
    columns = candidates.columns[(starts[:, None] + places[:, :k]).clamp_(max=len(candidates.columns) - 1)]
    tied = (values[:, k] == values[:, k - 1]) & (values[:, k] > 0)
    if bool(tied.any()):
        rows = block[tied].relu_() if relu_first else block[tied]
        columns[tied] = rows.topk(k, dim=1).indices
    fires = values[:, :k] > 0
    return Selected(fires.nonzero()[:, 0], columns[fires], values[:, :k][fires])
