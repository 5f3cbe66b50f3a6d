"""A plan is made with the very records that the run will have."""

import asyncio
import shutil
from pathlib import Path

from sae_auto_interp.config import RunConfig
from sae_auto_interp.pipeline.commands.demo import demo_config
from sae_auto_interp.pipeline.planning.records import sampled_records
from sae_auto_interp.pipeline.record_stage import RecordMaker, RecordStage, open_loader
from sae_auto_interp.pipeline.resolved import resolve, resolve_inputs
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.triage import FOLDER, triage_of
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types import FeatureId, TriageLabel
from tests.support.progress import Counter

MODULE = "transformer.h.1"


def skipping(indices: list[int], *labels: TriageLabel) -> RunConfig:
    config = demo_config(3)
    features = config.features.model_copy(update={"skip": labels, "indices": {MODULE: tuple(indices)}})
    return config.model_copy(update={"features": features})


def planned(config: RunConfig, directory: RunDirectory) -> list[FeatureId]:
    return [
        record.feature
        for module in sampled_records(resolve_inputs(config), resolve(config).records, directory.root).modules
        for record in module.records
    ]


def of_the_run(config: RunConfig, directory: RunDirectory, results: Path) -> list[FeatureId]:
    async def features(store: ResultStore) -> list[FeatureId]:
        maker = RecordMaker(loader, directory, triage=config.features.triage, skip=config.features.skip)
        stage = RecordStage(resolve(config).records, loader, store, Counter(), maker)
        return [evidence.feature async for evidence in stage.features()]

    loader = open_loader(resolve(config).records, directory)
    with ResultStore.open(results) as store:
        return asyncio.run(features(store))


def test_features_that_are_skipped_are_not_planned(demo: RunDirectory, tmp_path: Path) -> None:
    directory = RunDirectory(Path(shutil.copytree(demo.root, tmp_path / "demo")))
    shutil.rmtree(directory.root / FOLDER, ignore_errors=True)
    triage = triage_of(open_loader(resolve(demo_config(3)).records, directory), MODULE, directory.root, keep=False)
    labelled = [i for i in range(len(triage.profiles)) if triage.first_of(["single_token"], i) is not None]
    indices = [*range(8), *labelled[:8]]
    every, skipping_some = skipping(indices), skipping(indices, "single_token")
    planned_features = planned(skipping_some, directory)
    assert not (directory.root / FOLDER).exists()  # a plan stores nothing
    assert set() < set(planned_features) < set(planned(every, directory))
    assert planned_features == of_the_run(skipping_some, directory, tmp_path / "results.sqlite")
