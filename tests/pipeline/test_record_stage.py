"""Records of a run: as many as are wanted, the same whoever builds them and wherever it was interrupted."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sae_auto_interp.config import RunConfig, parse_config
from sae_auto_interp.pipeline.record_stage import RecordStage, open_loader
from sae_auto_interp.pipeline.resolved import resolve
from sae_auto_interp.pipeline.run_directory import RunDirectory, evidence_settings, with_digests
from sae_auto_interp.results import ResultStore
from tests.support.progress import Counter
from tests.support.records import make_rows, write_cache

MODULE = "transformer.h.1"
WIDTH = 12


def configuration(**features: Any) -> RunConfig:
    settings = {"window": 8, "n_train": 10, "n_test": 10, "n_quantiles": 5, "min_examples": 10, "n_features": 5}
    return parse_config({"model": "m", "autoencoders": ["a"], "features": settings | features})


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Every third feature fires in too few windows, often enough on paper."""
    rows = make_rows(200, 33, vocab=30_000, rows_per_document=4)
    rng = np.random.default_rng(0)
    entries = [
        (int(row), int(position), feature, float(rng.integers(1, 9)))
        for feature in range(WIDTH)
        for row in (range(200) if feature % 3 else range(4))
        for position in np.flatnonzero((rows.documents[row] >= 0) & (rng.random(33) < (0.05 if feature % 3 else 0.9)))
    ]
    made = RunDirectory(tmp_path_factory.mktemp("run"))
    write_cache(made.features, rows, {MODULE: entries}, width=WIDTH)
    made.save_tokens(rows)
    return made


async def _exhaust(stage: RecordStage) -> None:
    async for evidence in stage.features():
        assert evidence.record.feature == evidence.feature


def run(config: RunConfig, directory: RunDirectory, results: Path) -> tuple[Any, Counter]:
    """What the stage stored, and what it told about its progress."""
    progress = Counter()
    with ResultStore.open(results) as store:
        stage = RecordStage(resolve(config).records, open_loader(resolve(config).records, directory), store, progress)
        progress.start("records", sum(stage.n_expected.values()), stage.n_done, "features")
        asyncio.run(_exhaust(stage))
        failures = [(unit, failure.kind) for unit, failure in store.failures()]
        records = [repr(store.record(feature)) for feature in store.features()]
        return (records, sorted(failures), sorted(store.finished_units("records"))), progress


def test_other_processes_and_interruptions_change_nothing(directory: RunDirectory, tmp_path: Path) -> None:
    expected, progress = run(configuration(), directory, tmp_path / "alone.sqlite")
    records, failures, _ = expected
    assert (len(records), progress.n, progress.started) == (5, 5, [(5, 0)])
    assert failures
    assert {kind for _, kind in failures} <= {"rare", "too_few_examples"}
    assert run(configuration(workers=2), directory, tmp_path / "together.sqlite")[0] == expected
    run(configuration(n_features=2), directory, tmp_path / "resumed.sqlite")
    resumed, progress = run(configuration(workers=1), directory, tmp_path / "resumed.sqlite")
    assert resumed == expected
    assert (progress.n, progress.started) == (3, [(5, 2)])
    finished, progress = run(configuration(workers=2), directory, tmp_path / "together.sqlite")
    assert (finished, progress.n) == (expected, 0)


def test_features_asked_for_twice_are_built_once(directory: RunDirectory, tmp_path: Path) -> None:
    config = configuration(indices={MODULE: [4, 1, 4]})
    (records, failures, finished), progress = run(config, directory, tmp_path / "results.sqlite")
    assert (len(records), failures, finished) == (2, [], [f"{MODULE}:1", f"{MODULE}:4"])
    assert (progress.n, progress.started) == (2, [(2, 0)])


def test_the_number_of_processes_is_not_part_of_what_a_run_is() -> None:
    assert with_digests(evidence_settings(configuration(workers=3))) == with_digests(evidence_settings(configuration()))
    assert with_digests(evidence_settings(configuration(windows="centred"))) != with_digests(
        evidence_settings(configuration())
    )
