"""Stage 2: choose features and build their records."""

import numpy as np

from sae_auto_interp.config import RunConfig
from sae_auto_interp.errors import InputError
from sae_auto_interp.features import FeatureConfig, FeatureDataset, FeatureLoader
from sae_auto_interp.pipeline.components import checked_settings
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.protocols import Progress
from sae_auto_interp.results import ResultStore
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Failure, FeatureId

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
        _build_until(n, order, built, failed, loader, store, progress)
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
        chosen = [FeatureId(module, index) for index in indices.get(module, ())]
        return chosen, len(chosen)
    counts = dataset.readers[module].statistics()["n_activations"]
    often_enough = np.flatnonzero(counts >= dataset.cfg.min_examples)
    rng = derived_rng(config.seed, "selection", FeatureId(module, 0))
    return [FeatureId(module, int(index)) for index in rng.permutation(often_enough)], config.features.n_features


def _build_until(
    n: int,
    order: list[FeatureId],
    built: set[str],
    failed: set[str],
    loader: FeatureLoader,
    store: ResultStore,
    progress: Progress,
) -> None:
    """Go through the features in order until `n` have a record; what an earlier run did counts and is not redone."""
    n_built = 0
    for feature in order:
        if n_built == n:
            return
        unit = str(feature)
        if unit in built:
            n_built += 1
        elif unit not in failed and _build(feature, loader, store):
            n_built += 1
            progress.advance()


def _build(feature: FeatureId, loader: FeatureLoader, store: ResultStore) -> bool:
    """Build and store one record, or why there is none; true when there is one."""
    built = loader.build(feature)
    with store.unit(STAGE, str(feature)):
        if isinstance(built, Failure):
            store.add_failure(built, str(feature))
        else:
            store.add_record(built)
    return not isinstance(built, Failure)
