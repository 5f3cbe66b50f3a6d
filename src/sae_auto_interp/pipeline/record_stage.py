"""Stage 2: choose features and build their records, by other processes too where `features.workers` asks for them."""

from contextlib import closing

import numpy as np

from sae_auto_interp.config import RunConfig
from sae_auto_interp.errors import InputError
from sae_auto_interp.features import FeatureConfig, FeatureDataset, FeatureLoader
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.settings import checked_settings
from sae_auto_interp.protocols import Progress
from sae_auto_interp.results import ResultStore
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Failure, FeatureId, FeatureRecord

STAGE = "records"


def run_record_stage(config: RunConfig, directory: RunDirectory, store: ResultStore, progress: Progress) -> None:
    """Build `n_features` records per module (or those asked for); a feature without enough examples is a failure."""
    dataset = FeatureDataset(directory.features, feature_config(config), verify=True)
    loader = FeatureLoader(directory.load_tokens(), dataset)
    failed = {unit for unit, failure in store.failures() if failure.stage == STAGE}
    built = store.finished_units(STAGE) - failed
    wanted = {module: _candidates(config, dataset, module) for module in dataset.readers}
    total = sum(min(n, len(order)) for order, n in wanted.values())
    progress.start(STAGE, total, len(built), "features")
    for order, n in wanted.values():
        n_built = sum(str(feature) in built for feature in order)
        waiting = [feature for feature in order if str(feature) not in built | failed]
        _build(n - n_built, waiting, loader, store, progress, config.features.workers)
    progress.finish()


def feature_config(config: RunConfig) -> FeatureConfig:
    """The settings of records, as the run file gives them."""
    settings = {"seed": config.seed} | config.features.record_settings
    return FeatureConfig(**checked_settings(FeatureConfig, settings, "features"))


def _candidates(config: RunConfig, dataset: FeatureDataset, module: str) -> tuple[list[FeatureId], int]:
    """The features to try, in order, and how many records are wanted of them."""
    indices = config.features.indices
    if indices is not None:
        unknown = sorted(set(indices) - set(dataset.readers))
        if unknown:
            raise InputError(f"features.indices names {unknown[0]}, but the cache holds {', '.join(dataset.readers)}")
        chosen = [FeatureId(module, index) for index in dict.fromkeys(indices.get(module, ()))]
        return chosen, len(chosen)
    counts = dataset.readers[module].statistics()["n_activations"]
    often_enough = np.flatnonzero(counts >= dataset.cfg.min_examples)
    rng = derived_rng(config.seed, "selection", FeatureId(module, 0))
    return [FeatureId(module, int(index)) for index in rng.permutation(often_enough)], config.features.n_features


def _build(
    n: int, waiting: list[FeatureId], loader: FeatureLoader, store: ResultStore, progress: Progress, workers: int
) -> None:
    """Build and store records in the order of the features until there are `n`, and why some have none."""
    if n <= 0:
        return
    with closing(loader.prefetch(waiting, workers=workers)) as outcomes:
        for feature, outcome in zip(waiting, outcomes, strict=True):
            _store(feature, outcome, store)
            if isinstance(outcome, FeatureRecord):
                progress.advance()
                n -= 1
                if n == 0:
                    return


def _store(feature: FeatureId, outcome: FeatureRecord | Failure, store: ResultStore) -> None:
    with store.unit(STAGE, str(feature)):
        if isinstance(outcome, Failure):
            store.add_failure(outcome, str(feature))
        else:
            store.add_record(outcome)
