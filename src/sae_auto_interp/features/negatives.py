"""Windows on which a feature is silent: drawn without replacement, each verified against the cache."""

import numpy as np
from jaxtyping import Bool, Int64

from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.types import NO_DOCUMENT, Array, FeatureEntries


def silent_windows(entries: FeatureEntries, grid: WindowGrid) -> Int64[Array, " n"]:
    """Every window of the grid in which the feature fires on no token."""
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
) -> tuple[Int64[Array, " a"], Int64[Array, " b"]]:
    """Random windows for explaining and for scoring, from the documents of each side; fewer where there are fewer.

    A window whose tokens repeat another chosen one's is left out.
    """
    on_train_side = is_train[grid.documents[silent]]
    train = _draw(silent[on_train_side], grid, n_train, rng)
    test = _draw(silent[~on_train_side], grid, n_test, rng)
    shown = {row.tobytes() for row in grid.tokens(train)}
    fresh = [row.tobytes() not in shown for row in grid.tokens(test)]
    return train, test[np.array(fresh, dtype=bool)]


def _draw(candidates: Int64[Array, " n"], grid: WindowGrid, n: int, rng: np.random.Generator) -> Int64[Array, " m"]:
    drawn = rng.choice(candidates, min(2 * n, len(candidates)), replace=False)
    _, first = np.unique(grid.tokens(drawn), axis=0, return_index=True)
    return np.sort(drawn[np.sort(first)[:n]])
