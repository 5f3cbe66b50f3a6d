"""Silent windows that a wrong explanation might take for active ones: a neighbour's, and those with the peak's token.

Where a near feature fires and this one does not, an explanation that fits both is found out; where the token stands on
which the feature peaks, and it stays silent, one that names the token and forgets its context (after Bricken et al.
2023, "top token in a different context"). Both draw from queues in turn, see `negatives`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, Int64

from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.features.negatives import Side, SilentDraw
from sae_auto_interp.features.pools import Pool
from sae_auto_interp.types import Array, FeatureId


@dataclass(frozen=True, slots=True)
class NearFeature:
    """A neighbour of a feature, and where it fires."""

    feature: FeatureId
    distance: float
    windows: Int64[Array, " n"]
    """Windows of the grid, its strongest first."""


def neighbour_windows(draw: SilentDraw, near: Sequence[NearFeature], grid: WindowGrid, side: Side, n: int) -> Pool:
    """Of each neighbour in turn, the nearest first, the strongest window in which the feature is silent."""
    queues = [iter(draw.fitting(each.windows, side).tolist()) for each in near]
    windows, queue = draw.in_turn(queues, n)
    chosen: list[NearFeature] = [near[i] for i in queue.tolist()]
    return Pool.of_silent(
        windows, grid, "neighbour", tuple(each.feature for each in chosen), tuple(each.distance for each in chosen)
    )


def token_windows(
    draw: SilentDraw,
    peak_tokens: Int32[Array, " n_examples"],
    grid: WindowGrid,
    side: Side,
    n: int,
    rng: np.random.Generator,
) -> Pool:
    """Random silent windows that hold a token on which an example peaks: in proportion to how many examples do.

    The examples take turns in random order; one whose token is in no more such windows gives way to the others.
    """

    def shuffled(token: int) -> Iterator[int]:
        yield from rng.permutation(draw.fitting(grid.windows_with(token), side)).tolist()

    order: list[int] = rng.permutation(peak_tokens).tolist()
    by_token = {token: shuffled(token) for token in order}
    windows, _ = draw.in_turn([by_token[token] for token in order], n)
    return Pool.of_silent(windows, grid, "token")
