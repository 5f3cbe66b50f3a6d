"""A feature's activations -> the windows that may become its examples, before any is materialised.

`max_activation_pooling_sampler` takes the windows of the grid, in which an activation may be anywhere;
`pool_centred_activation_windows` takes windows around peaks, which then all lie at the same place. Both order the
windows by their maximum, and of near-duplicates (`texts`) both keep the window with the highest maximum alone: the same
boilerplate in train and test would be a leak.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, Int32, Int64

from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.features.near_duplicates import without_near_duplicates
from sae_auto_interp.types import NO_DOCUMENT, Array, FeatureEntries


@dataclass(frozen=True, slots=True)
class ActiveWindows:
    """Windows in which a feature fires, highest maximum first; equal maxima in order of location."""

    starts: Int64[Array, " n"]
    """Flat token index of each window's first token."""
    maxima: Float32[Array, " n"]
    documents: Int32[Array, " n"]
    n_on_grid: int
    """Windows of the grid in which the feature fires, near-duplicates included."""
    n_near_duplicates: int
    """Windows left out because a stronger one has nearly the same text."""
    touched: Int64[Array, " m"]
    """Windows of the grid that have a token on which the feature fires, or which one of these windows shows; sorted."""

    def __len__(self) -> int:
        return len(self.starts)


Constructor: TypeAlias = Callable[[FeatureEntries, WindowGrid], ActiveWindows]


def max_activation_pooling_sampler(entries: FeatureEntries, grid: WindowGrid) -> ActiveWindows:
    """Pool a feature's activations over the windows of the grid by their maximum; highest first.

    The name is the original library's.
    """
    windows = grid.windows_of(entries.locations)
    first = _first_of_each_value(windows)
    ids = windows[first]
    usable = np.flatnonzero((ids >= 0) & (grid.documents[ids] != NO_DOCUMENT))
    maxima = np.maximum.reduceat(entries.activations, first)[usable] if len(first) else np.empty(0, np.float32)
    active = ids[usable]
    by_maximum = np.argsort(-maxima, kind="stable")
    ordered = active[by_maximum]
    suspects = np.flatnonzero(grid.is_repetitive[ordered])
    if len(suspects):
        is_kept = np.ones(len(ordered), dtype=np.bool_)
        is_kept[suspects] = without_near_duplicates(grid.runs_at(grid.starts_of(ordered[suspects])))
        ordered, by_maximum = ordered[is_kept], by_maximum[is_kept]
    n_left_out = len(active) - len(ordered)
    starts, documents = grid.starts_of(ordered), grid.documents[ordered]
    return ActiveWindows(starts, maxima[by_maximum], documents, len(active), n_left_out, active)


def pool_centred_activation_windows(entries: FeatureEntries, grid: WindowGrid) -> ActiveWindows:
    """Windows around a feature's peaks, with the peak at index `window - window // 4`.

    Tokens are taken as peaks in order of activation (equal ones in order of location), each with its window, unless
    that window would share more than a quarter of its tokens with one taken before; so a feature that stays active
    for long is seen in windows side by side. A window lies in one row and one document: near their ends it is
    shifted, and the peak is then elsewhere; where the text is shorter than a window there is none. Delphi's
    `center_examples` means this.
    """
    run = grid.runs.of(entries.locations)
    begins, ends = grid.runs.begins[run], grid.runs.ends[run]
    fits = np.flatnonzero((grid.runs.documents[run] != NO_DOCUMENT) & (ends - begins >= grid.window))
    n_before = min(grid.window - grid.window // 4, grid.window - 1)
    starts = np.clip(entries.locations[fits] - n_before, begins[fits], ends[fits] - grid.window)
    spacing = max(1, grid.window - grid.window // 4)
    taken = np.sort(_strongest_apart(run[fits], starts, entries.activations[fits], spacing))
    starts, documents = starts[taken], grid.runs.documents[run[fits[taken]]]
    maxima = _maxima(entries, starts, grid.window)
    order = np.argsort(-maxima, kind="stable")
    order = order[without_near_duplicates(grid.runs_at(starts[order]))]
    active = grid.usable(_distinct(grid.windows_of(entries.locations)))
    shown = np.concatenate([grid.windows_of(starts[order]), grid.windows_of(starts[order] + grid.window - 1)])
    touched = np.union1d(active, shown[shown >= 0])
    n_left_out = len(taken) - len(order)
    return ActiveWindows(starts[order], maxima[order], documents[order], len(active), n_left_out, touched)


def activations_of(entries: FeatureEntries, starts: Int64[Array, " n"], window: int) -> Float32[Array, "n window"]:
    """The feature's activation on each token of the windows that begin at some flat token indices."""
    begins = np.searchsorted(entries.locations, starts)
    counts = np.searchsorted(entries.locations, starts + window) - begins
    owner = np.repeat(np.arange(len(starts)), counts)
    places = np.arange(len(owner)) + np.repeat(begins - (np.cumsum(counts) - counts), counts)
    dense = np.zeros((len(starts), window), dtype=np.float32)
    dense[owner, entries.locations[places] - starts[owner]] = entries.activations[places]
    return dense


def _first_of_each_value(values: Int64[Array, " n"]) -> Int64[Array, " m"]:
    """Where each stretch of equal values begins."""
    is_first = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=is_first[1:])
    return np.flatnonzero(is_first)


def _distinct(values: Int64[Array, " n"]) -> Int64[Array, " m"]:
    """Values of which equal ones stand together, each once; but for a -1 in between they are sorted."""
    return values[_first_of_each_value(values)]


def _strongest_apart(
    run: Int64[Array, " n"], starts: Int64[Array, " n"], strengths: Float32[Array, " n"], spacing: int
) -> Int64[Array, " m"]:
    """Indices of windows taken greedily by strength, such that no two begin less than `spacing` tokens apart.

    The windows come in order of location, which decides between equally strong ones. Those of different runs are
    never that close, so each round takes the strongest that is left of every run.
    """
    left = np.lexsort((-strengths, run))
    taken: list[Array] = []
    while len(left):
        is_strongest = np.ones(len(left), dtype=np.bool_)
        np.not_equal(run[left[1:]], run[left[:-1]], out=is_strongest[1:])
        strongest = left[is_strongest]
        taken.append(strongest)
        nearest = strongest[np.cumsum(is_strongest) - 1]
        left = left[np.abs(starts[left] - starts[nearest]) >= spacing]
    return np.concatenate(taken) if taken else np.empty(0, dtype=np.int64)


def _maxima(entries: FeatureEntries, starts: Int64[Array, " n"], window: int) -> Float32[Array, " n"]:
    """The highest activation within each window; every window has at least one."""
    bounds = np.searchsorted(entries.locations, np.stack([starts, starts + window], axis=1)).reshape(-1)
    padded = np.append(entries.activations, np.float32(0))  # a window may end with the last entry
    return np.maximum.reduceat(padded, bounds)[::2] if len(bounds) else np.empty(0, np.float32)
