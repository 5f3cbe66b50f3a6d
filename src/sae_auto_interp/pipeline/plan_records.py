"""Records to plan with: real ones where a run directory has a finished cache, else made from the run's own text.

What a record costs is decided by how many examples it has and how long their texts are, which the run file and its text
tell before any activation is known. Made-up examples are windows of that text; `PEAKS` tokens of each fire, about as
many as lie above a third of the maximum in the windows of trained autoencoders.
"""

from pathlib import Path
from typing import Any, cast

import numpy as np

from sae_auto_interp.config import RunConfig, resolve_path
from sae_auto_interp.errors import InputError
from sae_auto_interp.features.config import FeatureConfig
from sae_auto_interp.features.vocabulary import Vocabulary
from sae_auto_interp.pipeline.record_stage import feature_config, open_loader
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.token_rows import first_rows
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

N_SAMPLED = 5
"""Records that are planned with."""
PEAKS = 3
TEXT_TOKENS = 20_000
"""Of the run's text, that made-up examples are cut from."""


def sampled_records(config: RunConfig, root: Path | None) -> tuple[list[FeatureRecord], str]:
    """Records, and where they are from in words. Raises `InputError` where the text or the tokenizer cannot be read."""
    directory = None if root is None else RunDirectory(root)
    if directory is not None and (directory.features / "manifest.json").is_file():
        return _built(config, directory), f"{N_SAMPLED} records of {root}"
    return _made(config), "made-up examples from the run's text"


def _built(config: RunConfig, directory: RunDirectory) -> list[FeatureRecord]:
    loader = open_loader(config, directory)
    features = loader.dataset.features
    order = derived_rng(config.seed, "plan").permutation(len(features))
    records: list[FeatureRecord] = []
    for i in order:
        outcome = loader.build(features[int(i)])
        if not isinstance(outcome, Failure):
            records.append(outcome)
        if len(records) == N_SAMPLED:
            break
    if not records:
        raise InputError("no feature of this cache has enough examples; there is nothing to plan")
    return records


def _made(config: RunConfig) -> list[FeatureRecord]:
    tokenizer = _tokenizer(config)
    rows = first_rows(config, tokenizer, {}, min(config.data.n_tokens, TEXT_TOKENS))
    cutter = _Cutter(rows, Vocabulary.from_tokenizer(tokenizer), feature_config(config), config.seed)
    return [cutter.record(number) for number in range(N_SAMPLED)]


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
