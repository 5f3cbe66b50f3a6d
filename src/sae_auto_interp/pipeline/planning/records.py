"""Records to plan with: those of the run where a run directory has a finished cache, else made from the run's own text.

What a record costs is decided by how many examples it has and how long their texts are, which the run file and its text
tell before any activation is known. Made-up examples are windows of that text; `PEAKS` tokens of each fire, about as
many as lie above a third of the maximum in the windows of trained autoencoders. A finished cache gives the very records
of the run, in its order, up to `MOST_BUILT`: of a run of no more features, what it will ask is then counted one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from sae_auto_interp.config import RunConfig, resolve_path
from sae_auto_interp.errors import InputError
from sae_auto_interp.features import FeatureLoader
from sae_auto_interp.features.config import FeatureConfig
from sae_auto_interp.features.vocabulary import Vocabulary
from sae_auto_interp.pipeline.record_stage import candidates, feature_config, open_loader
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.token_rows import first_rows
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
)

N_MADE = 10
MOST_BUILT = 100
"""Records of a finished cache that are planned with, over all modules."""
PEAKS = 3
TEXT_TOKENS = 200_000
"""Of the run's text, that made-up examples are cut from."""


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


def sampled_records(config: RunConfig, root: Path | None) -> Sample:
    """Raises `InputError` where the text or the tokenizer cannot be read."""
    directory = None if root is None else RunDirectory(root)
    if directory is not None and (directory.features / "manifest.json").is_file():
        return _built(config, directory)
    records = _made(config)
    modules = [ModuleSample(records, n) for n in _features_per_module(config)]
    return Sample(modules, "made-up examples from the run's text")


def n_modules(config: RunConfig) -> int:
    """One for each entry whose modules are not named: most files hold one."""
    return sum(len(coder.module_paths or ("",)) for coder in config.autoencoders)


def _features_per_module(config: RunConfig) -> list[int]:
    """As many as were asked for: all find enough examples."""
    if config.features.indices is not None:
        return [len(set(indices)) for indices in config.features.indices.values()]
    return [config.features.n_features] * n_modules(config)


def _built(config: RunConfig, directory: RunDirectory) -> Sample:
    loader = open_loader(config, directory)
    modules = list(loader.dataset.readers)
    most = max(1, MOST_BUILT // len(modules))
    built: list[ModuleSample] = []
    for module in modules:
        order, n_wanted = candidates(config, loader.dataset, module)
        order = _not_skipped(config, loader, directory, module, order)
        n = min(n_wanted, len(order))
        records = _first_built(loader, order, min(n, most))
        if records:
            built.append(ModuleSample(records, n if len(records) == most else len(records)))
    if not built:
        raise InputError("no feature of this cache has enough examples; there is nothing to plan")
    n_built, n_in_all = sum(len(module.records) for module in built), sum(module.n_features for module in built)
    all_or_some = "all" if n_built == n_in_all else f"{n_built:,} of the"
    return Sample(built, f"{all_or_some} {n_in_all:,} records of {directory.root}")


def _not_skipped(
    config: RunConfig, loader: FeatureLoader, directory: RunDirectory, module: str, order: Sequence[FeatureId]
) -> Sequence[FeatureId]:
    """The features whose records the run would build."""
    skip = config.features.skip
    if not skip or not order:
        return order
    triage = triage_of(loader, module, directory.root, keep=False)
    return [feature for feature in order if triage.first_of(skip, feature.index) is None]


def _first_built(loader: FeatureLoader, order: Sequence[FeatureId], n: int) -> list[FeatureRecord]:
    """The first records that can be built, in order."""
    records: list[FeatureRecord] = []
    for feature in order:
        outcome = loader.build(feature)
        if not isinstance(outcome, Failure):
            records.append(outcome)
        if len(records) == n:
            break
    return records


def _made(config: RunConfig) -> list[FeatureRecord]:
    tokenizer = _tokenizer(config)
    rows = first_rows(config, tokenizer, {}, min(config.data.n_tokens, TEXT_TOKENS))
    cutter = _Cutter(rows, Vocabulary.from_tokenizer(tokenizer), feature_config(config), config.seed)
    return [cutter.record(number) for number in range(N_MADE)]


def _tokenizer(config: RunConfig) -> Any:
    from transformers import AutoTokenizer

    reference, _, revision = resolve_path(config.model).removeprefix("hf:").partition("@")
    try:
        return cast("Any", AutoTokenizer).from_pretrained(reference, revision=revision or None)
    except (OSError, ValueError) as error:
        raise InputError(f"the tokenizer of {config.model} cannot be loaded: {' '.join(str(error).split())}") from error


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
