"""Stage 2: choose features and build their records, by other processes too where `features.workers` asks for them."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import numpy as np

from sae_auto_interp.config import RunConfig
from sae_auto_interp.config.settings import checked_settings
from sae_auto_interp.errors import ConfigError, InputError
from sae_auto_interp.features import FeatureConfig, FeatureDataset, FeatureLoader
from sae_auto_interp.pipeline.evidence import Evidence
from sae_auto_interp.pipeline.record_maker import Outcome, RecordMaker
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.run_progress import RunProgress
from sae_auto_interp.results import ResultStore
from sae_auto_interp.results.codec import rounded_record
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Failure, FeatureId

STAGE = "records"


class RecordStage:
    """The features of a run in their order, each with its record as soon as it is built and stored."""

    def __init__(
        self,
        config: RunConfig,
        loader: FeatureLoader,
        store: ResultStore,
        progress: RunProgress,
        maker: RecordMaker | None = None,
    ) -> None:
        """`maker` None makes what needs nothing but the cache.

        Raises `InputError` when the run file names features of a module that the cache does not hold.
        """
        self._maker = maker or RecordMaker(loader, workers=config.features.workers)
        self._store = store
        self._progress = progress
        self._failed = {unit for unit, failure in store.failures() if failure.stage == STAGE}
        self._built = store.finished_units(STAGE) - self._failed
        self._wanted = {module: candidates(config, loader.dataset, module) for module in loader.dataset.readers}

    @property
    def n_expected(self) -> dict[str, int]:
        """{module path: records}; fewer where too many of the features have too few examples."""
        return {module: min(n, len(order)) for module, (order, n) in self._wanted.items()}

    @property
    def n_done(self) -> int:
        return len(self._built)

    async def features(self) -> AsyncGenerator[Evidence, None]:
        """`n_features` records per module (or those asked for); a feature without enough examples is a failure."""
        for order, n in self._wanted.values():
            remaining = n
            for feature in [feature for feature in order if str(feature) in self._built][:n]:
                remaining -= 1
                yield Evidence(feature, self._store)
            tried = self._built | self._failed
            waiting = [feature for feature in order if str(feature) not in tried]
            async for evidence in self._build(remaining, waiting):
                yield evidence

    async def _build(self, n: int, waiting: list[FeatureId]) -> AsyncGenerator[Evidence, None]:
        """Build and store records in the order of the features until there are `n`, and why some have none."""
        if n <= 0:
            return
        async with aclosing(self._maker.outcomes(waiting, n)) as outcomes:
            async for feature, outcome in outcomes:
                evidence = self._stored(feature, outcome)
                if evidence is not None:
                    n -= 1
                    yield evidence
                if n == 0:
                    return

    def _stored(self, feature: FeatureId, outcome: Outcome) -> Evidence | None:
        with self._store.unit(STAGE, str(feature)):
            if isinstance(outcome, Failure):
                self._store.add_failure(outcome, str(feature))
                return None
            record = rounded_record(outcome)
            self._store.add_record(record)
        self._progress.advance_stage(STAGE)
        return Evidence(feature, self._store, record)


def open_loader(config: RunConfig, directory: RunDirectory) -> FeatureLoader:
    """The cache of a run directory, to be read with the settings of its records."""
    dataset = FeatureDataset(directory.features, feature_config(config), verify=True)
    return FeatureLoader(directory.load_tokens(), dataset, neighbours=())


def feature_config(config: RunConfig) -> FeatureConfig:
    """The settings of records, as the run file gives them; raises `ConfigError` for impossible ones."""
    settings = {"seed": config.seed} | config.features.record_settings
    found = FeatureConfig(**checked_settings(FeatureConfig, settings, "features"))
    if found.asks_for("similar") and config.features.embedder is None:
        raise ConfigError(
            "features asks for windows of kind similar, which an embedding model finds; set features.embedder, e.g. to "
            "{name: sentence_transformers, model: ...}"
        )
    if config.features.skip and not config.features.triage:
        raise ConfigError("features.skip goes by labels, which features.triage gives; leave triage on")
    return found


def candidates(config: RunConfig, dataset: FeatureDataset, module: str) -> tuple[list[FeatureId], int]:
    """The features to try, in random order, and how many records are wanted of them.

    The order is random also where the features are chosen: neighbours in it are each other's shuffled controls.
    """
    indices = config.features.indices
    if indices is not None:
        unknown = sorted(set(indices) - set(dataset.readers))
        if unknown:
            raise InputError(f"features.indices names {unknown[0]}, but the cache holds {', '.join(dataset.readers)}")
        among = np.array(sorted(set(indices.get(module, ()))), dtype=np.int64)
    else:
        counts = dataset.readers[module].statistics()["n_activations"]
        among = np.flatnonzero(counts >= dataset.cfg.min_examples)
    rng = derived_rng(config.seed, "selection", FeatureId(module, 0))
    order = [FeatureId(module, int(index)) for index in rng.permutation(among)]
    return order, config.features.n_features if indices is None else len(order)
