"""FeatureLoader: a feature's cached activations and the tokens -> its record of examples.

    loader = FeatureLoader(tokens=tokens, dataset=dataset, constructor=max_activation_pooling_sampler)
    for record in loader: ...

Validity is by construction: the documents are split first, then examples are drawn on each side.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64

from sae_auto_interp.features.config import Sampling
from sae_auto_interp.features.constructors import ActiveWindows, max_activation_pooling_sampler
from sae_auto_interp.features.dataset import FeatureDataset
from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.features.negatives import random_non_activating, silent_windows
from sae_auto_interp.features.samplers import sample_windows
from sae_auto_interp.features.splits import training_documents
from sae_auto_interp.features.token_input import cached_rows, token_rows
from sae_auto_interp.features.vocabulary import Vocabulary
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import (
    Array,
    Example,
    ExampleSource,
    Failure,
    FeatureEntries,
    FeatureId,
    FeatureRecord,
    FeatureStats,
    NonActivating,
)

Constructor = Callable[[FeatureEntries, WindowGrid], ActiveWindows]


class FeatureLoader:
    """Builds records; iterating skips features without enough examples and keeps the reasons in `failures`.

    `tokens` are the rows that were cached (`TokenRows`, or an array of ids); rows beyond those, which `n_tokens` left
    out of the cache, are ignored. `constructor` turns a feature's activations into active windows. Strings come from
    `vocabulary`, else from the one saved with the cache; without either they are "<token 17>". Raises `InputError`
    for tokens that cannot be those of the cache.
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
        rows = cached_rows(token_rows(tokens), {path: reader.manifest for path, reader in dataset.readers.items()})
        self.grid = WindowGrid.over(rows, self.cfg.window)
        self.failures: dict[FeatureId, Failure] = {}
        self._constructor = constructor
        self._vocabulary = vocabulary or dataset.vocabulary or Vocabulary(())

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

    def build(self, feature: FeatureId) -> FeatureRecord | Failure:
        """The record of one feature, or the reason why there is none. Depends on nothing but the settings."""
        windows = self._constructor(self.dataset.entries(feature), self.grid)
        if len(windows.ids) < self.cfg.min_examples:
            return _too_rare(feature, len(windows.ids), self.cfg.min_examples)
        is_train = self._training_documents(windows)
        on_train_side = is_train[windows.documents]
        shown, held_out = (windows.take(np.flatnonzero(side)) for side in (on_train_side, ~on_train_side))
        train = self._activating(shown, self.cfg.n_train, self.cfg.sampling, "train")
        test = self._activating(held_out, self.cfg.n_test, "quantile", "test")
        silent = silent_windows(windows.entries, self.grid)
        taken = {example.tokens.tobytes() for example in (*train, *test)}
        non_activating = self._non_activating(feature, silent, is_train, taken)
        return self._problem(feature, train, test, non_activating) or FeatureRecord(
            feature, self._stats(windows, len(silent)), train, test, non_activating
        )

    def _training_documents(self, windows: ActiveWindows) -> Bool[Array, " n_documents"]:
        n_documents = len(self.grid.rows.document_names)
        rng = self._rng("documents", windows.entries.feature)
        return training_documents(windows.documents, n_documents, self.cfg.train_fraction, rng)

    def _activating(self, windows: ActiveWindows, n: int, sampling: Sampling, side: str) -> tuple[Example, ...]:
        rng = self._rng(side, windows.entries.feature)
        sample = sample_windows(len(windows.ids), n, self.cfg.n_quantiles, sampling, rng)
        chosen = windows.take(sample.indices)
        return tuple(
            self._example(int(window), windows.activations(int(window)), "activating", int(quantile))
            for window, quantile in zip(chosen.ids, sample.quantiles, strict=True)
        )

    def _non_activating(
        self, feature: FeatureId, silent: Int64[Array, " n"], is_train: Bool[Array, " n_documents"], taken: set[bytes]
    ) -> NonActivating:
        counts = self.cfg.n_non_activating_train, self.cfg.n_non_activating_test
        rng = self._rng("non_activating", feature)
        pools = random_non_activating(silent, self.grid, is_train, *counts, rng, taken=taken)
        nothing = np.zeros(self.cfg.window, dtype=np.float32)
        explain, test = (tuple(self._example(int(w), nothing, "random", None) for w in pool) for pool in pools)
        return NonActivating(explain, test)

    def _example(
        self, window: int, activations: Float32[Array, " window"], source: ExampleSource, quantile: int | None
    ) -> Example:
        row, start = self.grid.place(window)
        tokens = self.grid.rows.tokens[row, start : start + self.cfg.window]
        document = int(self.grid.documents[window])
        return Example(tokens, self._vocabulary.str_tokens(tokens), activations, row, start, document, source, quantile)

    def _stats(self, windows: ActiveWindows, n_silent: int) -> FeatureStats:
        activations = windows.entries.activations
        return FeatureStats(
            n_tokens=self.grid.rows.n_text_tokens,
            n_activations=len(activations),
            n_windows=self.grid.n_usable,
            n_active_windows=self.grid.n_usable - n_silent,
            max_activation=float(activations.max()),
            mean_activation=float(activations.mean(dtype=np.float64)),
        )

    def _problem(
        self, feature: FeatureId, train: tuple[Example, ...], test: tuple[Example, ...], non_activating: NonActivating
    ) -> Failure | None:
        """A record without examples of a kind that is asked for could not be explained, or not be tested."""
        wanted = {
            "train": (self.cfg.n_train, train),
            "test": (self.cfg.n_test, test),
            "non-activating for explaining": (self.cfg.n_non_activating_train, non_activating.explain),
            "non-activating for scoring": (self.cfg.n_non_activating_test, non_activating.test),
        }
        empty = [name for name, (n, examples) in wanted.items() if n > 0 and not examples]
        if not empty:
            return None
        reason = "it fires in too few documents, or in nearly every window"
        message = f"{feature} has no examples of kind: {', '.join(empty)}; {reason}"
        return Failure("records", "too_few_examples", message)

    def _rng(self, purpose: str, feature: FeatureId) -> np.random.Generator:
        """One generator per choice: asking for more training examples leaves the test set as it is."""
        return derived_rng(self.cfg.seed, f"records.{purpose}", feature)


def _too_rare(feature: FeatureId, n_windows: int, min_examples: int) -> Failure:
    kind = "dead" if n_windows == 0 else "rare"
    message = f"{feature} fires in {n_windows} distinct windows; min_examples is {min_examples}"
    return Failure("records", kind, message)
