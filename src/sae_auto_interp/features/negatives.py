"""Windows on which a feature is silent: drawn without replacement, each verified against the cache."""

from collections.abc import Collection

import numpy as np
from jaxtyping import Bool, Int64

from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.types import NO_DOCUMENT, Array, FeatureEntries


def silent_windows(entries: FeatureEntries, grid: WindowGrid) -> Int64[Array, " n"]:
    """Every window of the grid in which the feature fires on no token, however weakly."""
    usable = grid.documents != NO_DOCUMENT
    active = grid.windows_of(entries.locations)
    usable[active[active >= 0]] = False
    return np.flatnonzero(usable)


def random_non_activating(
    silent: Int64[Array, " n_silent"],
    grid: WindowGrid,
    is_train: Bool[Array, " n_documents"],
    n_train: int,
    n_test: int,
    rng: np.random.Generator,
    *,
    taken: Collection[bytes] = (),
) -> tuple[Int64[Array, " a"], Int64[Array, " b"]]:
    """Random windows for explaining and for scoring, from the documents of each side; fewer where there are fewer.

    No two windows of either have the same tokens, and none has tokens in `taken`: the very text of an activating
    example could not be told from it. Both are in order of window.
    """
    on_train_side = is_train[grid.documents[silent]]
    texts = set(taken)
    train = _draw(silent[on_train_side], grid, n_train, texts, rng)
    test = _draw(silent[~on_train_side], grid, n_test, texts, rng)
    return train, test


def _draw(
    candidates: Int64[Array, " n"], grid: WindowGrid, n: int, texts: set[bytes], rng: np.random.Generator
) -> Int64[Array, " m"]:
    """`n` of the candidates, each with tokens that are not in `texts` yet; adds them there."""
    chosen: list[int] = []
    while len(chosen) < n and len(candidates):
        drawn = rng.choice(len(candidates), min(2 * n, len(candidates)), replace=False)
        windows = candidates[drawn]
        for window, tokens in zip(windows, grid.tokens(windows), strict=True):
            text = tokens.tobytes()
            if len(chosen) < n and text not in texts:
                texts.add(text)
                chosen.append(int(window))
        candidates = np.delete(candidates, drawn)
    return np.array(sorted(chosen), dtype=np.int64)
