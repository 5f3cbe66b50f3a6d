"""FeatureLoader: a feature's cached activations and the tokens -> its record of examples.

    loader = FeatureLoader(tokens=tokens, dataset=dataset, constructor=max_activation_pooling_sampler)
    for record in loader: ...

A record is made in two steps: its windows are selected (`selection`), then their text is read (`examples`).

Selected windows -> a record with its text: tokens, strings and activations of all examples at once.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import accumulate, chain, pairwise, repeat
from typing import Any

from jaxtyping import Int64

from sae_auto_interp.cache.opening import check_tokens
from sae_auto_interp.errors import ConfigError
from sae_auto_interp.features.config import Windows
from sae_auto_interp.features.constructors import (
    Constructor,
    max_activation_pooling_sampler,
    pool_centred_activation_windows,
)
from sae_auto_interp.features.dataset import FeatureDataset
from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.features.negatives import NearFeature
from sae_auto_interp.features.neighbours import Neighbours
from sae_auto_interp.features.prefetch import selected_ahead
from sae_auto_interp.features.selection import Selection, select_windows
from sae_auto_interp.features.token_input import cached_rows, token_rows, without_positions
from sae_auto_interp.features.vocabulary import Vocabulary
from sae_auto_interp.types import (
    Array,
    Example,
    Failure,
    FeatureId,
    FeatureRecord,
    NonActivating,
    TokenRows,
)


def record_of(selection: Selection, grid: WindowGrid, vocabulary: Vocabulary) -> FeatureRecord:
    """The record of a feature, complete."""
    every = tuple(_examples(selection, grid, vocabulary))
    pools = (every[begin:end] for begin, end in pairwise(accumulate(selection.sizes, initial=0)))
    train, test, dev, explain, silent, silent_dev = pools
    non_activating = NonActivating(explain, silent, silent_dev)
    return FeatureRecord(
        selection.feature, selection.stats, train, test, non_activating, dev, shortages=selection.shortages
    )


def _examples(selection: Selection, grid: WindowGrid, vocabulary: Vocabulary) -> Iterator[Example]:
    windows = selection.windows
    tokens = grid.tokens_at(windows.starts)
    rows = windows.starts // grid.rows.ctx_len
    return map(
        Example,
        tokens,
        vocabulary.windows(tokens),
        selection.activations,
        rows.tolist(),
        (windows.starts - rows * grid.rows.ctx_len).tolist(),
        windows.documents.tolist(),
        windows.sources,
        chain(windows.quantiles.tolist(), repeat(None)),
        windows.neighbours,
        windows.distances,
    )


CONSTRUCTORS: dict[Windows, Constructor] = {
    "grid": max_activation_pooling_sampler,
    "centred": pool_centred_activation_windows,
}


class FeatureLoader:
    """Builds records; iterating skips features without enough examples and keeps the reasons in `failures`.

    `tokens` are the rows that were cached (`TokenRows`, or an array of ids); rows beyond those, which `n_tokens` left
    out of the cache, are ignored. `constructor` turns a feature's activations into active windows; None takes the one
    that `cfg.windows` names. Strings come from `vocabulary`, else from the one saved with the cache; without either
    they are "<token 17>". `neighbours` (of each module) are those in whose windows non-activating examples of kind
    `neighbour` are sought. Raises `InputError` for tokens that cannot be those of the cache, and `ConfigError` when
    `constructor` contradicts `cfg.windows`, or neighbours are needed and not given.
    """

    def __init__(
        self,
        tokens: Any,
        dataset: FeatureDataset,
        constructor: Constructor | None = None,
        *,
        vocabulary: Vocabulary | None = None,
        neighbours: Iterable[Neighbours] | None = None,
    ) -> None:
        self.dataset = dataset
        self.cfg = dataset.cfg
        if neighbours is None and self.cfg.asks_for("neighbour"):
            raise ConfigError(
                "windows of kind `neighbour` are asked for, but FeatureLoader was not given neighbours; pass "
                "neighbours=[...], e.g. what `load_neighbours` reads, or []"
            )
        self.distances: dict[FeatureId, list[tuple[FeatureId, float]]] = {}
        self.add_neighbours(neighbours or ())
        rows = cached_rows(token_rows(tokens), {path: reader.manifest for path, reader in dataset.readers.items()})
        check_tokens(dataset.readers, rows)
        self.grid = self._grid_over(rows)
        self._grids: dict[str, WindowGrid] = {}
        self.failures: dict[FeatureId, Failure] = {}
        self.constructor = _constructor(constructor, self.cfg.windows)
        self.vocabulary = vocabulary or dataset.vocabulary or Vocabulary(())

    def add_neighbours(self, neighbours: Iterable[Neighbours]) -> None:
        """More neighbours, in whose windows non-activating examples of kind `neighbour` are sought."""
        for found in neighbours:
            self.distances |= found.distances()

    def texts_at(self, starts: Int64[Array, " n"]) -> list[str]:
        """The text of the windows that begin at some flat token indices."""
        return ["".join(strings) for strings in self.vocabulary.windows(self.grid.tokens_at(starts))]

    def __len__(self) -> int:
        """Features to try; some may turn out to have no record."""
        return len(self.dataset)

    def __iter__(self) -> Iterator[FeatureRecord]:
        for feature in self.dataset.features:
            built = self.build(feature)
            if isinstance(built, Failure):
                self.failures[feature] = built
            else:
                yield built

    def prefetch(
        self, features: Iterable[FeatureId] | None = None, *, workers: int, ahead: int | None = None
    ) -> Generator[FeatureRecord | Failure, None, None]:
        """Build records in `workers` other processes, `ahead` of them before they are asked for; in the order given.

        What comes out is what `build` gives, one for each of `features` (None: all of the dataset). `workers` 0
        builds in this process; `ahead` None is four per worker. Close the iterator, or go through it to its end, to
        end the processes. A script that asks for workers needs an `if __name__ == "__main__":`, because they import
        it. Raises `InputError` for impossible numbers, or a constructor that is not a function of a module;
        `WorkerError` when a process is lost.
        """
        return self._finished_each(self.selections(features, workers=workers, ahead=ahead))

    def selections(
        self, features: Iterable[FeatureId] | None = None, *, workers: int, ahead: int | None = None
    ) -> Generator[Selection | Failure, None, None]:
        """As `prefetch`, but windows without their text; `finished` makes the record of each."""
        return selected_ahead(self, self.dataset.features if features is None else features, workers, ahead)

    def build(self, feature: FeatureId) -> FeatureRecord | Failure:
        """The record of one feature, or the reason why there is none. Depends on nothing but the settings."""
        return self.finished(self.select(feature))

    def select(self, feature: FeatureId) -> Selection | Failure:
        """The windows of one feature's record, without their text."""
        entries = self.dataset.entries(feature)
        grid = self.grid_of(feature.module_path)
        return select_windows(entries, self.constructor(entries, grid), grid, self.cfg, partial(self._near, feature))

    def grid_of(self, module_path: str) -> WindowGrid:
        """The windows of a module: those of all, but for positions that its norm mask left unread."""
        if module_path not in self._grids:
            masked = self.dataset.masked_positions(module_path)
            rows = without_positions(self.grid.rows, masked)
            self._grids[module_path] = self._grid_over(rows) if len(masked) else self.grid
        return self._grids[module_path]

    def _grid_over(self, rows: TokenRows) -> WindowGrid:
        return WindowGrid.over(rows, self.cfg.window, self.cfg.near_duplicate_tokens)

    def _near(self, feature: FeatureId) -> list[NearFeature]:
        """A feature's neighbours, and the windows in which they fire."""
        grid = self.grid_of(feature.module_path)
        near: list[NearFeature] = []
        for other, distance in self.distances.get(feature, [])[: self.cfg.n_neighbours]:
            windows = max_activation_pooling_sampler(self.dataset.entries(other), grid)
            near.append(NearFeature(other, distance, grid.windows_of(windows.starts)))
        return near

    def _finished_each(
        self, selections: Generator[Selection | Failure, None, None]
    ) -> Generator[FeatureRecord | Failure, None, None]:
        with closing(selections):
            for selected in selections:
                yield self.finished(selected)

    def finished(self, selected: Selection | Failure) -> FeatureRecord | Failure:
        """The record of selected windows; a failure as it is."""
        return selected if isinstance(selected, Failure) else record_of(selected, self.grid, self.vocabulary)


def _constructor(given: Constructor | None, windows: Windows) -> Constructor:
    named = CONSTRUCTORS[windows]
    if given is not None and given is not named and windows != "grid":
        raise ConfigError(
            f"features.windows={windows!r}, but FeatureLoader was given another constructor; give one of them"
        )
    return given or named
