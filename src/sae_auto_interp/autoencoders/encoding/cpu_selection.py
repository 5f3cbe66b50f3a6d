"""Which pre-activations of a block of rows are kept: those above a threshold, or each row's exact top k.

On a CPU they are taken out of tiles of columns (`tiles`): the top k by what is likely (`likely`) and, where nothing is
known yet or it was no good, by what is certain (`candidates`). Where several entries equal the k-th largest, those are
kept that `torch.topk` keeps of the whole row: such rows are computed once more.
"""

import numpy as np
import torch
from jaxtyping import Float32, Int64

from sae_auto_interp.autoencoders.encoding.candidates import Candidates
from sae_auto_interp.autoencoders.encoding.likely_bounds import LikelyBounds, Top, top_above
from sae_auto_interp.autoencoders.encoding.scan import Entries, Scan, by_row
from sae_auto_interp.autoencoders.encoding.tiles import WHOLE_ENTRIES, PreActivations, Tiles, computed, is_sorted_whole
from sae_auto_interp.autoencoders.encoding.workers import Room
from sae_auto_interp.types import Array


def select_above(pre: PreActivations, threshold: Float32[Array, " width"] | float, tiles: Tiles, room: Room) -> Entries:
    """The entries above `threshold`, in order of row."""
    scan = Scan(pre.shape[0], tiles.columns, room)
    for first, n_columns, tile in computed(pre, tiles.columns, room):
        bound = threshold[first : first + n_columns] if isinstance(threshold, np.ndarray) else threshold
        scan.add(tile.numpy(), n_columns, bound, first)
    return scan.entries()


def select_topk(
    pre: PreActivations, k: int, tiles: Tiles, room: Room, relu_first: bool = False, likely: LikelyBounds | None = None
) -> Entries:
    """The entries above zero among the k largest of each row, in order of row.

    `relu_first` looks for the k largest after a ReLU, which decides nothing but which of equal entries are kept.
    `likely` is asked what to look at, and told what was found; it decides nothing at all.
    """
    if is_sorted_whole(pre.shape[1], k):
        return _topk_of_whole_rows(pre, k, room, relu_first)
    bounds = None if likely is None else likely.of(pre)
    top = None if bounds is None else top_above(pre, k, tiles, room, bounds)
    top = top or _top_of_candidates(pre, k, tiles, room)
    if top is None:
        return _topk_of_whole_rows(pre, k, room, relu_first)
    if likely is not None:
        likely.learn(pre, top.kth_largest, len(top.missed))
    best = top.best
    if len(top.tied):
        best = _replaced(best, top.tied, _topk_of_whole_rows(pre.of_rows(top.tied), k, room, relu_first))
    if len(top.missed):
        best = _replaced(best, top.missed, select_topk(pre.of_rows(top.missed), k, tiles, room, relu_first))
    return best


def _top_of_candidates(pre: PreActivations, k: int, tiles: Tiles, room: Room) -> Top | None:
    """None where nearly all values are equal."""
    candidates = Candidates(pre.shape[0], k, tiles.columns, tiles.piece, room)
    for first, n_columns, tile in computed(pre, tiles.columns, room):
        tile[:, n_columns:] = -torch.inf
        if not candidates.add(tile, first):
            return None
    best = candidates.best()
    return Top(best, candidates.kth_largest(), tied=candidates.tied(), missed=np.empty(0, np.int64))


def _replaced(entries: Entries, rows: Int64[Array, " some"], of_rows: Entries) -> Entries:
    """The entries with others for some rows; `of_rows` counts these."""
    kept = entries.where(~np.isin(entries.rows, rows))
    return by_row([kept, Entries(rows[of_rows.rows], of_rows.columns, of_rows.values)])


def _topk_of_whole_rows(pre: PreActivations, k: int, room: Room, relu_first: bool) -> Entries:
    n, width = pre.shape
    step = max(1, WHOLE_ENTRIES // width)
    starts = range(0, n, step)
    parts = [_of_whole_rows(pre.of_rows(slice(first, first + step)), first, k, room, relu_first) for first in starts]
    return parts[0] if len(parts) == 1 else by_row(parts)


def _of_whole_rows(pre: PreActivations, first_row: int, k: int, room: Room, relu_first: bool) -> Entries:
    block = torch.from_numpy(room.array("tile", pre.shape))
    pre.compute(0, pre.shape[1], block)
    if relu_first:
        block.relu_()
    values, columns = (found.numpy() for found in block.topk(k, dim=1))
    fires = values > 0
    return Entries(np.nonzero(fires)[0] + first_row, columns[fires], values[fires])
