"""Stage 2: choose features and build their records, by other processes too where `features.workers` asks for them.

Records of a run: what `FeatureLoader` builds, with what needs more than the cache.

Features are labelled first (`triage`), so that those whose label is to be skipped are not built. Neighbours and logits
are looked up for the next few features at a time, as many as the run will need if few of them fail; which are looked
up together changes nothing. Windows alike in meaning are chosen here, in this process, because they need the embedding
model; the index of windows is kept in the run directory, so that a run that goes on finds the same ones.
"""

from collections.abc import AsyncGenerator, Collection, Generator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.features import FeatureDataset, FeatureLoader
from sae_auto_interp.features.selection import Selection
from sae_auto_interp.features.similar import WindowIndex, index_source, window_index, with_similar
from sae_auto_interp.pipeline.components import OpenEmbedders
from sae_auto_interp.pipeline.neighbours import neighbours_of
from sae_auto_interp.pipeline.progress.state import RunProgress
from sae_auto_interp.pipeline.resolved import Records, Subject
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.subject.logits import SubjectLogits
from sae_auto_interp.pipeline.triage import ModuleTriage, record_profile, triage_of
from sae_auto_interp.pipeline.units import Evidence, claim_component
from sae_auto_interp.pipeline.workers import in_thread
from sae_auto_interp.protocols import Embedder
from sae_auto_interp.results import ResultStore
from sae_auto_interp.results.codec import rounded_record
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Failure, FeatureId, FeatureRecord, TokenLogits, TriageLabel

Outcome: TypeAlias = FeatureRecord | Failure


SPARE_FEATURES = 16
"""Looked up beyond twice the records that are wanted, for those that have too few examples."""


class RecordMaker:
    """Makes records of a run directory's features; `directory` None is a cache without one."""

    def __init__(
        self,
        loader: FeatureLoader,
        directory: RunDirectory | None = None,
        *,
        workers: int = 0,
        embedder: Embedder | None = None,
        triage: bool = False,
        skip: Collection[TriageLabel] = (),
        logits: SubjectLogits | None = None,
    ) -> None:
        """Raises `ConfigError` when the settings ask for windows that need a run directory or an embedder."""
        cfg = loader.cfg
        if cfg.asks_for("similar") and embedder is None:
            raise ConfigError("windows of kind `similar` are asked for; set features.embedder, e.g. to openai")
        if (cfg.asks_for("similar") or cfg.asks_for("neighbour")) and directory is None:
            raise ConfigError("windows of kind `neighbour` or `similar` are made in a run directory; give one")
        self._loader = loader
        self._directory = directory
        self._workers = workers
        self._embedder = embedder
        self._has_triage = triage and directory is not None
        self._skip = frozenset(skip)
        self._subject_logits = logits
        self._logits: dict[FeatureId, TokenLogits] = {}
        self._triage: dict[str, ModuleTriage] = {}
        self._indices: dict[str, WindowIndex] = {}

    async def outcomes(self, features: Sequence[FeatureId], n: int) -> AsyncGenerator[tuple[FeatureId, Outcome], None]:
        """Each of some features with its record, or why it has none; `n` records are wanted, more may be given."""
        for some in self._looked_up_together(features, n):
            await in_thread(lambda some=some: self._look_up(some))
            skipped = {feature: failure for feature in some if (failure := self._skipped(feature)) is not None}
            built = [feature for feature in some if feature not in skipped]
            selections = self._loader.selections(built, workers=self._workers)
            try:
                for feature in some:
                    yield feature, skipped[feature] if feature in skipped else await self._outcome(selections)
            finally:
                selections.close()

    def _looked_up_together(self, features: Sequence[FeatureId], n: int) -> list[Sequence[FeatureId]]:
        is_looked_up = self._loader.cfg.asks_for("neighbour") or self._subject_logits is not None
        size = 2 * n + SPARE_FEATURES if is_looked_up else max(1, len(features))
        return [features[begin : begin + size] for begin in range(0, len(features), size)]

    def _look_up(self, features: Sequence[FeatureId]) -> None:
        if self._has_triage and self._directory is not None:
            for module in {feature.module_path for feature in features} - self._triage.keys():
                self._triage[module] = triage_of(self._loader, module, self._directory.root)
        if self._subject_logits is not None:
            wanted = [feature for feature in features if self._skipped(feature) is None]
            self._logits |= self._subject_logits.of(wanted)
        if self._loader.cfg.asks_for("neighbour") and self._directory is not None:
            self._loader.add_neighbours(neighbours_of(features, self._loader.dataset, self._directory))

    def _skipped(self, feature: FeatureId) -> Failure | None:
        """Why a feature is not to be built, if it is not."""
        triage = self._triage.get(feature.module_path)
        label = None if triage is None else triage.first_of(self._skip, feature.index)
        if label is None:
            return None
        return Failure("records", label, f"{feature} is skipped: it is labelled {label} (features.skip)")

    async def _outcome(self, selections: Generator[Selection | Failure, None, None]) -> Outcome:
        selected = await in_thread(lambda: next(selections))
        if isinstance(selected, Selection) and self._embedder is not None and self._loader.cfg.asks_for("similar"):
            index = await self._index(selected.feature.module_path, self._embedder)
            selected = await with_similar(selected, self._loader, index, self._embedder)
        record = self._loader.finished(selected)
        return record if isinstance(record, Failure) else self._completed(record)

    def _completed(self, record: FeatureRecord) -> FeatureRecord:
        triage = self._triage.get(record.feature.module_path)
        loader, logits = self._loader, self._logits.get(record.feature)
        profile = None if triage is None else record_profile(record.feature, triage, loader, loader.vocabulary)
        return replace(record, profile=profile, logits=logits)

    async def _index(self, module: str, embedder: Embedder) -> WindowIndex:
        """Return the index of the module's windows: one for all modules, unless a norm mask left positions out."""
        grid = self._loader.grid_of(module)
        name = "all" if grid is self._loader.grid else module
        if name not in self._indices:
            assert self._directory is not None, "checked when this was made"
            path = self._directory.root / "similar" / f"{name}.safetensors"
            source = index_source(self._loader, grid, embedder)
            index = WindowIndex.load(path, source)
            if index is None:
                index = await window_index(self._loader, grid, embedder)
                index.save(path, source)
            self._indices[name] = index
        return self._indices[name]


STAGE = "records"


class RecordStage:
    """The features of a run in their order, each with its record as soon as it is built and stored."""

    def __init__(
        self,
        records: Records,
        loader: FeatureLoader,
        store: ResultStore,
        progress: RunProgress,
        maker: RecordMaker | None = None,
    ) -> None:
        """`maker` None makes what needs nothing but the cache.

        Raises `InputError` when the run file names features of a module that the cache does not hold.
        """
        self._maker = maker or RecordMaker(loader, workers=records.workers)
        self._store = store
        self._progress = progress
        self._failed = {unit for unit, failure in store.failures() if failure.stage == STAGE}
        self._built = store.finished_units(STAGE) - self._failed
        self._wanted = {module: candidates(records, loader.dataset, module) for module in loader.dataset.readers}

    @property
    def n_expected(self) -> dict[str, int]:
        """{module path: records}; fewer where too many of the features have too few examples."""
        return {module: min(n, len(order)) for module, (order, n) in self._wanted.items()}

    @property
    def n_done(self) -> int:
        return len(self._built)

    def expected(self) -> list[FeatureId]:
        """The features that come first in the order of each module, as many as records are wanted."""
        return [feature for order, n in self._wanted.values() for feature in order[:n]]

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


def open_loader(records: Records, directory: RunDirectory) -> FeatureLoader:
    """The cache of a run directory, to be read with the settings of its records."""
    dataset = FeatureDataset(directory.features, records.config, verify=True)
    return FeatureLoader(directory.load_tokens(), dataset, neighbours=())


def candidates(records: Records, dataset: FeatureDataset, module: str) -> tuple[list[FeatureId], int]:
    """The features to try, in random order, and how many records are wanted of them.

    The order is random also where the features are chosen: neighbours in it are each other's shuffled controls.
    """
    indices = records.chosen({name: reader.manifest.width for name, reader in dataset.readers.items()})
    if indices is not None:
        among = np.array(sorted(set(indices.get(module, ()))), dtype=np.int64)
    else:
        counts = dataset.readers[module].statistics()["n_activations"]
        among = np.flatnonzero(counts >= dataset.cfg.min_examples)
    rng = derived_rng(records.seed, "selection", FeatureId(module, 0))
    order = [FeatureId(module, int(index)) for index in rng.permutation(among)]
    return order, records.n_features if indices is None else len(order)


@asynccontextmanager
async def open_record_maker(
    records: Records, subject: Subject, loader: FeatureLoader, directory: RunDirectory, store: ResultStore
) -> AsyncGenerator[RecordMaker, None]:
    """What makes the run's records, with the embedding model that they need."""
    embedders = OpenEmbedders()
    chosen = records.embedder
    if chosen is not None:
        claim_component(store, f"embedder of records {chosen.name}", chosen.given)
    try:
        embedder = None if chosen is None else embedders.opened(chosen)
        n_logits = records.n_logits
        yield RecordMaker(
            loader, directory, workers=records.workers, embedder=embedder, triage=records.triage, skip=records.skip,
            logits=SubjectLogits(subject, directory, loader.vocabulary, n_logits) if n_logits else None,
        )  # fmt: skip
    finally:
        await embedders.close()
