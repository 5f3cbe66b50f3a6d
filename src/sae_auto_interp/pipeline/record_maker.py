"""Records of a run: what `FeatureLoader` builds, with what needs more than the cache.

Features are labelled first (`triage`), so that those whose label is to be skipped are not built. Neighbours and logits
are looked up for the next few features at a time, as many as the run will need if few of them fail; which are looked
up together changes nothing. Windows alike in meaning are chosen here, in this process, because they need the embedding
model; the index of windows is kept in the run directory, so that a run that goes on finds the same ones.
"""

from collections.abc import AsyncGenerator, Collection, Generator, Sequence
from dataclasses import replace
from typing import TypeAlias

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.features import FeatureLoader
from sae_auto_interp.features.selection import Selection
from sae_auto_interp.features.similar import WindowIndex, window_index, with_similar
from sae_auto_interp.pipeline.neighbours import neighbours_of
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.subject.logits import SubjectLogits
from sae_auto_interp.pipeline.triage import ModuleTriage, record_profile, triage_of
from sae_auto_interp.pipeline.workers import in_thread
from sae_auto_interp.protocols import Embedder
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
        """Of the module's windows; those of all modules but where a norm mask left positions out."""
        grid = self._loader.grid_of(module)
        name = "all" if grid is self._loader.grid else module
        if name not in self._indices:
            assert self._directory is not None, "checked when this was made"
            path = self._directory.root / "similar" / f"{name}.safetensors"
            if not path.is_file():
                (await window_index(self._loader, grid, embedder)).save(path)
            self._indices[name] = WindowIndex.load(path)
        return self._indices[name]
