"""FeatureLoader: a feature's cached activations and the tokens -> its record of examples.

    loader = FeatureLoader(tokens=tokens, dataset=dataset, constructor=max_activation_pooling_sampler)
    for record in loader: ...

Validity is by construction: the documents are split first, then examples are drawn on each side.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Int64

from sae_auto_interp.features.constructors import ActiveWindows, max_activation_pooling_sampler
from sae_auto_interp.features.dataset import FeatureDataset
from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.features.negatives import random_non_activating, silent_windows
from sae_auto_interp.features.samplers import sample_windows
from sae_auto_interp.features.splits import training_documents
from sae_auto_interp.features.vocabulary import Vocabulary
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import (
    NO_DOCUMENT, Array, Example, Failure, FeatureEntries, FeatureId, FeatureRecord, FeatureStats, NonActivating, TokenRows,
)  # fmt: skip

Constructor = Callable[[FeatureEntries, WindowGrid], ActiveWindows]


class FeatureLoader:
    """Builds records; iterating skips features without enough examples and keeps the reasons in `failures`.

    `tokens` are the rows that were cached (`TokenRows`, or an array of ids). `constructor` turns a feature's
    activations into active windows. Strings come from the vocabulary saved with the cache, or from `vocabulary`.
    """

    def __init__(
        self,
        tokens: Any,
        dataset: FeatureDataset,
        constructor: Constructor = max_activation_pooling_sampler,
        *,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        self.dataset = dataset
        self.cfg = dataset.cfg
        self.grid = WindowGrid.over(tokens if isinstance(tokens, TokenRows) else TokenRows.from_ids(tokens), self.cfg.window)
        self.failures: dict[FeatureId, Failure] = {}
        self._constructor = constructor
        self._vocabulary = vocabulary or dataset.vocabulary

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[FeatureRecord]:
        for feature in self.dataset.features:
            built = self.build(feature)
            if isinstance(built, Failure):
                self.failures[feature] = built
            else:
                yield built

    def build(self, feature: FeatureId) -> FeatureRecord | Failure:
        """The record of one feature, or the reason why there is none. Depends on nothing but the run's seed."""
        windows = self._constructor(self.dataset.entries(feature), self.grid)
        if len(windows.ids) < self.cfg.min_examples:
            kind = "dead" if len(windows.ids) == 0 else "rare"
            message = f"{feature} fires in {len(windows.ids)} distinct windows; min_examples is {self.cfg.min_examples}"
            return Failure("records", kind, message)
        rng = derived_rng(self.cfg.seed, "records", feature)
        n_documents = len(self.grid.rows.document_names)
        is_train = training_documents(windows.documents, n_documents, self.cfg.train_fraction, rng)
        on_train_side = is_train[windows.documents]
        train = self._activating(windows.take(np.flatnonzero(on_train_side)), self.cfg.n_train, self.cfg.sampling, rng)
        test = self._activating(windows.take(np.flatnonzero(~on_train_side)), self.cfg.n_test, "quantile", rng)
        silent = silent_windows(windows.entries, self.grid)
        non_activating = self._non_activating(silent, is_train, rng)
        problem = _too_few(feature, train, test, non_activating)
        return problem or FeatureRecord(feature, self._stats(windows, len(silent)), train, test, non_activating)

    def _activating(self, windows: ActiveWindows, n: int, sampling: Any, rng: np.random.Generator) -> tuple[Example, ...]:
        sample = sample_windows(len(windows.ids), n, self.cfg.n_quantiles, sampling, rng)
        chosen = windows.take(sample.indices)
        return tuple(
            self._example(int(window), windows.activations(int(window)), "activating", int(quantile))
            for window, quantile in zip(chosen.ids, sample.quantiles, strict=True)
        )

    def _non_activating(
        self, silent: Int64[Array, " n"], is_train: Array, rng: np.random.Generator
    ) -> NonActivating:
        counts = self.cfg.n_non_activating_train, self.cfg.n_non_activating_test
        pools = random_non_activating(silent, self.grid, is_train, *counts, rng)
        nothing = np.zeros(self.cfg.window, dtype=np.float32)
        explain, test = (tuple(self._example(int(w), nothing, "random", None) for w in pool) for pool in pools)
        return NonActivating(explain, test)

    def _example(self, window: int, activations: Array, source: Any, quantile: int | None) -> Example:
        row, start = self.grid.place(window)
        tokens = self.grid.rows.tokens[row, start : start + self.cfg.window]
        strings = self._vocabulary.str_tokens(tokens) if self._vocabulary is not None else ()
        document = int(self.grid.documents[window])
        return Example(tokens, strings, activations, row, start, document, source, quantile)

    def _stats(self, windows: ActiveWindows, n_silent: int) -> FeatureStats:
        activations = windows.entries.activations
        return FeatureStats(
            n_tokens=self.grid.rows.n_text_tokens, n_activations=len(activations), n_windows=self.grid.n_usable,
            n_active_windows=self.grid.n_usable - n_silent, max_activation=float(activations.max()),
            mean_activation=float(activations.mean()),
        )  # fmt: skip


def _too_few(
    feature: FeatureId, train: tuple[Example, ...], test: tuple[Example, ...], non_activating: NonActivating
) -> Failure | None:
    counts = {
        "train": len(train), "test": len(test), "non-activating for explaining": len(non_activating.explain),
        "non-activating for scoring": len(non_activating.test),
    }  # fmt: skip
    empty = [name for name, count in counts.items() if count == 0]
    if not empty:
        return None
    message = f"{feature} has no examples of kind: {', '.join(empty)}; it fires in too few documents, or in nearly every window"
    return Failure("records", "too_few_examples", message)

