"""Windows on which a feature is silent: drawn without replacement, each checked against the feature's own windows.

Most features are silent nearly everywhere, so windows of the grid are drawn at random and the unfit ones among them
passed over; only where hardly any is fit are all silent windows looked up. A draw therefore costs the same however
large the cache.
"""

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Bool, Int64

from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.types import NO_DOCUMENT, Array

N_ROUNDS = 4
"""How often windows are drawn before all silent ones are looked up."""
DRAWN_PER_WANTED = 4
"""Windows drawn in each round, for each that is wanted still: half are on the other side, some are not silent."""


def silent_windows(touched: Int64[Array, " m"], grid: WindowGrid) -> Int64[Array, " n"]:
    """Every window of the grid that counts and is not `touched`: no token of it activates the feature, however
    weakly."""
    is_silent = grid.documents != NO_DOCUMENT
    is_silent[touched] = False
    return np.flatnonzero(is_silent)


def random_non_activating(
    touched: Int64[Array, " m"],
    grid: WindowGrid,
    sides: Sequence[Bool[Array, " n_documents"]],
    counts: Sequence[int],
    rng: np.random.Generator,
    *,
    taken: Collection[bytes] = (),
) -> list[Int64[Array, " n"]]:
    """Random silent windows for each side, which is a set of documents: as many as `counts` says, or all there are.

    `touched` are the windows that are not silent, sorted (`ActiveWindows.touched`). No two windows of all sides have
    the same tokens, and none has tokens in `taken`: the very text of an activating example could not be told from it.
    Each side's are in order of window.
    """
    draw = _SilentDraw(touched, grid, set(taken), rng)
    return [draw.windows(n, side) for side, n in zip(sides, counts, strict=True)]


class _SilentDraw:
    """Draws for one feature; `texts` grows by the text of every window that is chosen."""

    def __init__(
        self,
        touched: Int64[Array, " m"],
        grid: WindowGrid,
        texts: set[bytes],
        rng: np.random.Generator,
    ) -> None:
        self._touched = touched
        self._grid = grid
        self._texts = texts
        self._rng = rng

    def windows(self, n: int, side: Bool[Array, " n_documents"]) -> Int64[Array, " m"]:
        """`n` windows of one side, or all that there are."""
        chosen: list[int] = []
        n_windows = len(self._grid.documents)
        for _ in range(N_ROUNDS):
            if len(chosen) < n:
                drawn = self._rng.integers(0, n_windows, DRAWN_PER_WANTED * (n - len(chosen)))
                self._choose(self._on_side(self._silent(drawn), side), n, chosen)
        if len(chosen) < n:
            every = self._on_side(silent_windows(self._touched, self._grid), side)
            self._choose(self._rng.permutation(every), n, chosen)
        return np.array(sorted(chosen), dtype=np.int64)

    def _silent(self, windows: Int64[Array, " n"]) -> Int64[Array, " m"]:
        """Those of some windows that count and are not touched."""
        windows = self._grid.usable(windows)
        if len(self._touched) == 0:
            return windows
        nearest = np.searchsorted(self._touched, windows).clip(max=len(self._touched) - 1)
        return windows[self._touched[nearest] != windows]

    def _on_side(self, windows: Int64[Array, " n"], side: Bool[Array, " n_documents"]) -> Int64[Array, " m"]:
        return windows[side[self._grid.documents[windows]]]

    def _choose(self, candidates: Int64[Array, " n"], n: int, chosen: list[int]) -> None:
        """Add the candidates to the chosen ones, up to `n`, but for those whose text is taken (their own included)."""
        for begin in range(0, len(candidates), DRAWN_PER_WANTED * n):
            block = candidates[begin : begin + DRAWN_PER_WANTED * n]
            for window, tokens in zip(block.tolist(), self._grid.tokens_at(self._grid.starts_of(block)), strict=True):
                if len(chosen) == n:
                    return
                text = tokens.tobytes()
                if text not in self._texts:
                    self._texts.add(text)
                    chosen.append(window)
