"""Which other feature of a run is most like a feature: whose explanation its nearest control takes.

Alike is the cosine of decoder rows (`features.cosine_neighbours`) where the cache names the weights that it was made
with. Coders that are made, and caches of unknown origin, have none to read: there it is the Jaccard index of firing
together (`features.cooccurrence`). Which of the two depends on the cache alone, so a run that goes on elsewhere has the
same one.

Only features of the run are compared, not the autoencoder's whole width: the others have no explanation.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from sae_auto_interp.features import FeatureDataset
from sae_auto_interp.features.neighbours.cooccurrence import jaccard_neighbours
from sae_auto_interp.features.neighbours.cosine import cosine_neighbours
from sae_auto_interp.pipeline.neighbours import coder_of, names_weights, weight_files, weight_places
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.types import Array, CacheManifest, FeatureId


class NearestFeatures:
    """Compares a run's features, by the weights or the activations of its cache."""

    def __init__(self, dataset: FeatureDataset, run: RunDirectory) -> None:
        """Raises `InputError` when weights that a module was cached with are not found: before anything is spent."""
        self._readers = dataset.readers
        of_files = [reader.manifest for reader in dataset.readers.values() if names_weights(reader.manifest)]
        self._places: Sequence[Path] = weight_places(run) if of_files else ()
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
        directions = coder_of(manifest, self._places).w_dec.numpy()[others]
        places = cosine_neighbours(directions, 1, features=np.searchsorted(others, asked))[0][:, 0]
        return np.where(places >= 0, others[places], -1)
