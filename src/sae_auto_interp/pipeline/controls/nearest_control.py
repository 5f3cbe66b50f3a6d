"""The nearest control: a feature's tests with the explanation of the most similar other feature of the run.

Harder than the shuffled control. An explanation of the right kind ("dates") passes for every feature of that kind and
beats that of a random other one; what it scores above this control is what it says about its own feature.

Whose explanation a feature gets is decided among all features of its module in the run (`nearest_features`), explained
or not, so it depends on the weights and the run's features alone. The other one may come last, so these controls are
scored when all features are done, with the explanations that are in the store by then. Where the nearest one has none,
the control stays open with that reason: the next nearest would be an easier control, and another one after a resume.

Which other feature of a run is most like a feature: whose explanation its nearest control takes.

Alike is the cosine of decoder rows (`features.cosine_neighbours`) where the cache names the weights that it was made
with. Coders that are made, and caches of unknown origin, have none to read: there it is the Jaccard index of firing
together (`features.cooccurrence`). Which of the two depends on the cache alone, so a run that goes on elsewhere has the
same one.

Only features of the run are compared, not the autoencoder's whole width: the others have no explanation.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from sae_auto_interp.features import FeatureDataset
from sae_auto_interp.features.neighbours.cooccurrence import jaccard_neighbours
from sae_auto_interp.features.neighbours.cosine import cosine_neighbours
from sae_auto_interp.pipeline.explain_stage import ExplainStage
from sae_auto_interp.pipeline.interrupts import Stop
from sae_auto_interp.pipeline.neighbours import coder_of, names_weights, weight_files, weight_options, weight_places
from sae_auto_interp.pipeline.progress.state import RunProgress
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.score_stage import NEAREST, STAGE as SCORE, ScoreStage, as_control
from sae_auto_interp.pipeline.units import Evidence
from sae_auto_interp.pipeline.workers import for_each, in_thread, together
from sae_auto_interp.types import Array, CacheManifest, Explanation, Failure, FeatureId


class NearestFeatures:
    """Compares a run's features, by the weights or the activations of its cache."""

    def __init__(self, dataset: FeatureDataset, run: RunDirectory) -> None:
        """Raises `InputError` when weights that a module was cached with are not found: before anything is spent."""
        self._readers = dataset.readers
        of_files = [reader.manifest for reader in dataset.readers.values() if names_weights(reader.manifest)]
        self._places: Sequence[Path] = weight_places(run) if of_files else ()
        self._options = weight_options(run) if of_files else []
        for manifest in of_files:
            weight_files(manifest, self._places)

    def nearest(self, features: Sequence[FeatureId], among: Sequence[FeatureId]) -> dict[FeatureId, FeatureId]:
        """The feature of `among` most like each of `features`, all of one module; of equal ones the lower index.

        A feature without a direction, or that fires with no other one, has none and is left out. Raises `InputError`
        when the weights are not those that the module was cached with.
        """
        if not features:
            return {}
        module = features[0].module_path
        asked = np.array([feature.index for feature in features], dtype=np.int64)
        others = np.array(sorted(feature.index for feature in among), dtype=np.int64)
        found = self._found(module, asked, others)
        return {
            feature: FeatureId(module, int(index))
            for feature, index in zip(features, found, strict=True)
            if index >= 0
        }  # fmt: skip

    def _found(self, module: str, asked: Int64[Array, " m"], others: Int64[Array, " k"]) -> Int64[Array, " m"]:
        """The index of each one's nearest, -1 for none."""
        reader = self._readers[module]
        if names_weights(reader.manifest):
            return self._by_direction(reader.manifest, asked, others)
        return jaccard_neighbours(reader, 1, features=asked, among=others)[0][:, 0]

    def _by_direction(
        self, manifest: CacheManifest, asked: Int64[Array, " m"], others: Int64[Array, " k"]
    ) -> Int64[Array, " m"]:
        """Only the rows of `others` are compared, and all of `asked` are among them."""
        directions = coder_of(manifest, self._places, self._options).w_dec.numpy()[others]
        places = cosine_neighbours(directions, 1, features=np.searchsorted(others, asked))[0][:, 0]
        return np.where(places >= 0, others[places], -1)


NO_NEAREST = "no_nearest_feature"


NOT_EXPLAINED = "nearest_not_explained"


@dataclass(frozen=True, slots=True)
class _Pair:
    """A feature and the one whose explanation it gets."""

    evidence: Evidence
    other: FeatureId | None
    """None where nothing is like it."""


class NearestControl:
    """The controls of a run, and the features that have come so far."""

    def __init__(
        self,
        features: NearestFeatures,
        explain: ExplainStage,
        score: ScoreStage,
        progress: RunProgress,
        limit: int | None = None,
    ) -> None:
        """`limit`: features of each module that get one; None: all."""
        self._features = features
        self._explain, self._score = explain, score
        self._progress = progress
        self._limit = limit
        self._came: dict[str, list[Evidence]] = {}

    def n_features(self, n: int) -> int:
        """Features of a module's first `n` that have one."""
        if n < 2:
            return 0
        return n if self._limit is None else min(n, self._limit)

    def came(self, evidence: Evidence) -> None:
        """One more feature of the run, in its order."""
        self._came.setdefault(evidence.feature.module_path, []).append(evidence.without_record())

    async def score_all(self, at_once: Callable[[], int], stop: Stop) -> None:
        """Score what is not scored yet, several features at a time. All features must have been explained."""
        await for_each(self._pairs(stop), self._score_pair, at_once)

    async def _pairs(self, stop: Stop) -> AsyncIterator[_Pair]:
        """Those on which something is left to do, until the run is to stop."""
        for came in self._came.values():
            wanted = came[: self.n_features(len(came))]
            left = [evidence for evidence in wanted if not self._is_done(evidence.feature)]
            if stop.requested or not left:
                continue
            asked, among = [each.feature for each in left], [each.feature for each in came]
            nearest = await in_thread(lambda asked=asked, among=among: self._features.nearest(asked, among))
            for evidence in left:
                if stop.requested:
                    return
                yield _Pair(evidence.without_record(), nearest.get(evidence.feature))

    def _is_done(self, feature: FeatureId) -> bool:
        return all(self._score.is_done(name, feature, control=NEAREST) for name in self._explain.names)

    async def _score_pair(self, pair: _Pair) -> None:
        await together(self._score_by(name, pair) for name in self._explain.names)

    async def _score_by(self, name: str, pair: _Pair) -> None:
        """The control of one explainer; none where it failed on the feature itself, and there is nothing to compare."""
        feature = pair.evidence.feature
        if self._score.is_done(name, feature, control=NEAREST):
            return
        if self._explain.stored(name, feature) is None:
            self._progress.drop(SCORE, self._score.n_scores(name, is_control=True))
            return
        other = self._explanation_of(name, pair)
        if isinstance(other, Failure):
            self._score.leave_open(name, feature, NEAREST, other)
        else:
            await self._score.score(name, as_control(other, feature, NEAREST), pair.evidence)

    def _explanation_of(self, name: str, pair: _Pair) -> Explanation | Failure:
        if pair.other is None:
            return Failure(SCORE, NO_NEAREST, f"no other feature of the run is like {pair.evidence.feature}")
        found = self._explain.stored(name, pair.other)
        if found is None:
            return Failure(SCORE, NOT_EXPLAINED, f"{pair.other}, the nearest, has no explanation by {name}")
        return found
