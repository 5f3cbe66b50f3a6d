"""Windows on which a feature is silent: each checked against the feature's own windows, and none drawn twice.

Most features are silent nearly everywhere, so random windows of the grid are drawn and the unfit ones among them passed
over; only where hardly any is fit are all silent windows looked up. A draw therefore costs the same however large the
cache. Windows of the harder kinds come in queues (one per neighbour, per peak token, per query), which give one window
each in turn, so that no neighbour, token or query decides alone what the feature is held against.

Silent windows that a wrong explanation might take for active ones: a neighbour's, and those with the peak's token.

Where a near feature fires and this one does not, an explanation that fits both is found out; where the token stands on
which the feature peaks, and it stays silent, one that names the token and forgets its context (after Bricken et al.
2023, "top token in a different context"). Both draw from queues in turn, see `negatives`.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32, Int64

from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.features.near_duplicates import FOUND_ONCE
from sae_auto_interp.features.pools import Pool
from sae_auto_interp.types import NO_DOCUMENT, Array, FeatureId

N_ROUNDS = 4
"""How often windows are drawn before all silent ones are looked up."""


DRAWN_PER_WANTED = 4
"""Windows drawn in each round, for each that is wanted still: half are on the other side, some are not silent."""


Side = Bool[Array, " n_documents"]
"""A set of documents."""


def silent_windows(touched: Int64[Array, " m"], grid: WindowGrid) -> Int64[Array, " n"]:
    """Every window of the grid that counts and is not `touched`: no token of it activates the feature, however
    weakly."""
    is_silent = grid.documents != NO_DOCUMENT
    is_silent[touched] = False
    return np.flatnonzero(is_silent)


def random_non_activating(
    touched: Int64[Array, " m"],
    grid: WindowGrid,
    sides: Sequence[Side],
    counts: Sequence[int],
    rng: np.random.Generator,
    *,
    taken: Int64[Array, " k"] | None = None,
) -> list[Int64[Array, " n"]]:
    """Random silent windows for each side, which is a set of documents: as many as `counts` says, or all there are.

    `touched` are the windows that are not silent, sorted (`ActiveWindows.touched`). No two windows of all sides are
    near-duplicates, and none is one of a window that begins at one of `taken`: the very text of an activating example
    could not be told from it. Each side's are in order of window.
    """
    draw = SilentDraw(touched, grid, np.empty(0, np.int64) if taken is None else taken)
    return [draw.random(n, side, rng) for side, n in zip(sides, counts, strict=True)]


class SilentDraw:
    """Draws silent windows of one feature; no window that it gives is, or nearly repeats, one that it gave before."""

    def __init__(self, touched: Int64[Array, " m"], grid: WindowGrid, taken: Int64[Array, " k"]) -> None:
        """`touched` are the windows in which the feature fires, sorted; `taken` is where its other examples begin."""
        self._touched = touched
        self._grid = grid
        self._windows: set[int] = set(grid.windows_of(taken).tolist())
        runs = grid.runs_at(taken)
        self._runs: set[int] = set(runs[runs != FOUND_ONCE].tolist())

    def random(self, n: int, side: Side, rng: np.random.Generator) -> Int64[Array, " m"]:
        """`n` windows of one side, or all that there are; in order of window."""
        chosen: list[int] = []
        n_windows = len(self._grid.documents)
        for _ in range(N_ROUNDS):
            if len(chosen) < n:
                drawn = rng.integers(0, n_windows, DRAWN_PER_WANTED * (n - len(chosen)))
                self._choose(self.fitting(drawn, side), n, chosen)
        if len(chosen) < n:
            every = self._on_side(silent_windows(self._touched, self._grid), side)
            self._choose(rng.permutation(every), n, chosen)
        return np.array(sorted(chosen), dtype=np.int64)

    def in_turn(self, queues: Sequence[Iterator[int]], n: int) -> tuple[Int64[Array, " m"], Int64[Array, " m"]]:
        """`n` windows, one of each queue in turn, and the queue of each; fewer when all queues are at their end.

        The queues hold windows that are `fitting`; a queue may stand there more than once.
        """
        chosen: list[tuple[int, int]] = []
        waiting = deque(range(len(queues)))
        while waiting and len(chosen) < n:
            queue = waiting.popleft()
            window = next((w for w in queues[queue] if self._take(w, self._runs_of(np.array([w]))[0])), None)
            if window is not None:
                chosen.append((window, queue))
                waiting.append(queue)
        found = np.array(chosen, dtype=np.int64).reshape(-1, 2)
        return found[:, 0], found[:, 1]

    def fitting(self, windows: Int64[Array, " n"], side: Side) -> Int64[Array, " m"]:
        """Those of some windows that count, are on a side, and in which the feature is silent; in their order."""
        windows = self._on_side(self._grid.usable(windows), side)
        if len(self._touched) == 0:
            return windows
        nearest = np.searchsorted(self._touched, windows).clip(max=len(self._touched) - 1)
        return windows[self._touched[nearest] != windows]

    def _on_side(self, windows: Int64[Array, " n"], side: Side) -> Int64[Array, " m"]:
        return windows[side[self._grid.documents[windows]]]

    def _choose(self, candidates: Int64[Array, " n"], n: int, chosen: list[int]) -> None:
        """Add the candidates that may be taken to the chosen ones, up to `n`."""
        for begin in range(0, len(candidates), DRAWN_PER_WANTED * n):
            block = candidates[begin : begin + DRAWN_PER_WANTED * n]
            for window, runs in zip(block.tolist(), self._runs_of(block), strict=True):
                if len(chosen) == n:
                    return
                if self._take(window, runs):
                    chosen.append(window)

    def _runs_of(self, windows: Int64[Array, " n"]) -> list[list[int]]:
        """The runs of tokens that each window has and others in the corpus may share."""
        runs: list[list[int]] = [[]] * len(windows)
        repetitive = np.flatnonzero(self._grid.is_repetitive[windows])
        if len(repetitive):
            found = self._grid.runs_at(self._grid.starts_of(windows[repetitive])).tolist()
            for place, its_runs in zip(repetitive.tolist(), found, strict=True):
                runs[place] = [run for run in its_runs if run != FOUND_ONCE]
        return runs

    def _take(self, window: int, runs: Iterable[int]) -> bool:
        """Take a window, unless it or nearly its text is taken already."""
        if window in self._windows or not self._runs.isdisjoint(runs):
            return False
        self._windows.add(window)
        self._runs.update(runs)
        return True


@dataclass(frozen=True, slots=True)
class NearFeature:
    """A neighbour of a feature, and where it fires."""

    feature: FeatureId
    distance: float
    windows: Int64[Array, " n"]
    """Windows of the grid, its strongest first."""


def neighbour_windows(draw: SilentDraw, near: Sequence[NearFeature], grid: WindowGrid, side: Side, n: int) -> Pool:
    """Return, for each neighbour in turn (nearest first), its strongest window in which the feature is silent."""
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
