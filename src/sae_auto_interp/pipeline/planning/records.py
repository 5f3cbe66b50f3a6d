"""Records to plan with: those of the run where a run directory has a finished cache, else made from the run's own text.

What a record costs is decided by how many examples it has and how long their texts are, which the run file and its text
tell before any activation is known. Made-up examples are windows of that text; `PEAKS` tokens of each fire, about as
many as lie above a third of the maximum in the windows of trained autoencoders. A finished cache gives the very records
of the run, in its order, up to `MOST_BUILT`: of a run of no more features, what it will ask is then counted one by one.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sae_auto_interp.config import resolve_path
from sae_auto_interp.errors import InputError
from sae_auto_interp.features import FeatureLoader
from sae_auto_interp.features.config import FeatureConfig
from sae_auto_interp.features.vocabulary import Vocabulary
from sae_auto_interp.pipeline.cache_stage import positions_warning
from sae_auto_interp.pipeline.record_stage import candidates, open_loader
from sae_auto_interp.pipeline.resolved import Inputs, Records
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.token_rows import check_documents, first_rows
from sae_auto_interp.pipeline.triage import triage_of
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import (
    NO_DOCUMENT,
    Example,
    ExampleSource,
    Failure,
    FeatureId,
    FeatureRecord,
    FeatureStats,
    NonActivating,
    TokenRows,
    TriageLabel,
)
from sae_auto_interp.visible_text import counted

_LOG = logging.getLogger(__name__)
N_MADE = 10
MOST_BUILT = 100
"""Records of a finished cache that are planned with, over all modules."""
PEAKS = 3
TEXT_TOKENS = 200_000
"""Tokens of the run's text that made-up examples are cut from."""


@dataclass(frozen=True, slots=True)
class ModuleSample:
    """The records of one module that are planned with, in the run's order."""

    records: Sequence[FeatureRecord]
    n_features: int
    """So many records the run will have; where there are as many here, these are they."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Records to plan with, and where they are from in words."""

    modules: Sequence[ModuleSample]
    source: str

    @property
    def n_features(self) -> int:
        return sum(module.n_features for module in self.modules)


def sampled_records(inputs: Inputs, records: Records, root: Path | None) -> Sample:
    """Raises `InputError` where the text or the tokenizer cannot be read."""
    directory = None if root is None else RunDirectory(root)
    if directory is not None and (directory.features / "manifest.json").is_file():
        return _built(records, directory)
    rows, made = _made(inputs, records)
    modules = [ModuleSample(made, n) for n in _features_per_module(records, inputs.subject.n_modules)]
    seen = f"{counted(rows.n_text_tokens, 'token')} of {counted(len(rows.document_names), 'document')}"
    return Sample(modules, f"made-up examples from the run's text ({seen})")


def _features_per_module(records: Records, n_modules: int) -> list[int]:
    """As many as were asked for: all find enough examples."""
    if records.indices is not None:
        return [len(set(indices)) for indices in records.indices.values()]
    return [records.n_features] * n_modules


def _built(records: Records, directory: RunDirectory) -> Sample:
    loader = open_loader(records, directory)
    modules = list(loader.dataset.readers)
    most = max(1, MOST_BUILT // len(modules))
    built: list[ModuleSample] = []
    failed: list[Failure] = []
    for module in modules:
        order, n_wanted = candidates(records, loader.dataset, module)
        order = _not_skipped(records.skip, loader, directory, module, order)
        n = min(n_wanted, len(order))
        found = _first_built(loader, order, min(n, most), failed)
        if found:
            built.append(ModuleSample(found, n if len(found) == most else len(found)))
    if not built:
        why = f" ({failed[0].message})" if failed else ""
        raise InputError(f"no feature of this cache has enough examples{why}; there is nothing to plan")
    n_built, n_in_all = sum(len(module.records) for module in built), sum(module.n_features for module in built)
    all_or_some = "all" if n_built == n_in_all else f"{n_built:,} of the"
    return Sample(built, f"{all_or_some} {n_in_all:,} records of {directory.root}")


def _not_skipped(
    skip: Collection[TriageLabel],
    loader: FeatureLoader,
    directory: RunDirectory,
    module: str,
    order: Sequence[FeatureId],
) -> Sequence[FeatureId]:
    """The features whose records the run would build."""
    if not skip or not order:
        return order
    triage = triage_of(loader, module, directory.root, keep=False)
    return [feature for feature in order if triage.first_of(skip, feature.index) is None]


def _first_built(
    loader: FeatureLoader, order: Sequence[FeatureId], n: int, failed: list[Failure]
) -> list[FeatureRecord]:
    """The first records that can be built, in order; why others cannot is added to `failed`."""
    records: list[FeatureRecord] = []
    for feature in order:
        outcome = loader.build(feature)
        if isinstance(outcome, Failure):
            failed.append(outcome)
        else:
            records.append(outcome)
        if len(records) == n:
            break
    return records


def _made(inputs: Inputs, records: Records) -> tuple[TokenRows, list[FeatureRecord]]:
    """The text's first rows, and records of it. Raises `InputError` where no feature could have one."""
    from sae_auto_interp.models.subject import subject_tokenizer

    text = inputs.text
    warning = positions_warning(inputs.subject, text.data.ctx_len)
    if warning is not None:
        _LOG.warning(warning)
    tokenizer = subject_tokenizer(resolve_path(inputs.subject.model))
    rows = first_rows(text, tokenizer, {}, min(text.data.n_tokens, TEXT_TOKENS))
    if text.data.n_tokens <= TEXT_TOKENS:  # these are all that the run has
        check_documents(text, rows)
    cutter = _Cutter(rows, Vocabulary.from_tokenizer(tokenizer), records.config, records.seed)
    return rows, [cutter.record(number) for number in range(N_MADE)]


class _Cutter:
    """Cuts made-up examples out of rows."""

    def __init__(self, rows: TokenRows, vocabulary: Vocabulary, cfg: FeatureConfig, seed: int) -> None:
        self._rows, self._vocabulary, self._cfg, self._seed = rows, vocabulary, cfg, seed
        starts = range(0, rows.ctx_len - cfg.window + 1, cfg.window)
        self._places = [
            (row, start)
            for row in range(rows.n_rows)
            for start in starts
            if (rows.documents[row, start : start + cfg.window] != NO_DOCUMENT).all()
        ]
        if not self._places:
            raise InputError(f"no window of {cfg.window} tokens fits the text; lower features.window")

    def record(self, number: int) -> FeatureRecord:
        cfg, feature = self._cfg, FeatureId("plan", number)
        rng = derived_rng(self._seed, "plan", feature)
        train, test, dev = (self._examples(n, rng, PEAKS) for n in (cfg.n_train, cfg.n_test, cfg.n_dev))
        counts = (cfg.n_non_activating_train, cfg.n_non_activating_test, cfg.n_non_activating_dev)
        silent = (self._examples(_total(n), rng, 0) for n in counts)
        stats = FeatureStats(cfg.n_test, PEAKS * cfg.n_test, cfg.n_test, cfg.n_test, 1.0, 0.5)
        return FeatureRecord(feature, stats, train, test, NonActivating(*silent), dev)

    def _examples(self, n: int, rng: np.random.Generator, n_peaks: int) -> tuple[Example, ...]:
        chosen = rng.integers(len(self._places), size=n)
        source: ExampleSource = "activating" if n_peaks else "random"
        return tuple(self._example(*self._places[int(i)], rng, n_peaks, source) for i in chosen)

    def _example(self, row: int, start: int, rng: np.random.Generator, n_peaks: int, source: ExampleSource) -> Example:
        tokens = self._rows.tokens[row, start : start + self._cfg.window]
        activations = np.zeros(len(tokens), np.float32)
        peaks = rng.choice(len(tokens), size=min(n_peaks, len(tokens)), replace=False)
        activations[peaks] = rng.uniform(0.4, 1.0, size=len(peaks))
        strings = self._vocabulary.str_tokens(tokens)
        document = int(self._rows.documents[row, start])
        return Example(tokens, strings, activations, row, start, document, source, 0 if n_peaks else None)


def _total(counts: Any) -> int:
    """A number of silent windows, which may be given by kind."""
    return int(sum(counts.values())) if hasattr(counts, "values") else int(counts)
