"""FeatureDataset: the features of a cache directory, read lazily, one slice each."""

from collections.abc import Iterable, Iterator, Mapping
from operator import index as index_of
from pathlib import Path
from typing import SupportsIndex

import numpy as np

from sae_auto_interp.cache.layout import MANIFEST
from sae_auto_interp.cache.reader import CacheReader
from sae_auto_interp.errors import CacheError, UnknownNameError
from sae_auto_interp.features.config import FeatureConfig
from sae_auto_interp.features.vocabulary import Vocabulary
from sae_auto_interp.types import FeatureEntries, FeatureId


class FeatureDataset:
    """Every feature that fired, of every module cached in `raw_dir`; iterating reads one feature at a time.

    `features` gives {module path: indices} to look at only those. Raises `CacheError` when `raw_dir` holds
    no finished cache, `UnknownNameError` for a module that it does not hold and `InputError` for a feature beyond its
    width.
    """

    def __init__(
        self,
        raw_dir: str | Path,
        cfg: FeatureConfig | None = None,
        *,
        features: Mapping[str, Iterable[SupportsIndex]] | None = None,
        verify: bool = False,
    ) -> None:
        self.raw_dir = Path(raw_dir)
        self.cfg = cfg or FeatureConfig()
        directories = sorted(path.parent for path in self.raw_dir.glob(f"*/{MANIFEST}"))
        if not directories:
            raise CacheError(
                f"{self.raw_dir} holds no finished cache; run the cache stage first (it resumes where it stopped)"
            )
        readers = [CacheReader(directory, verify=verify) for directory in directories]
        self.readers = {reader.module_path: reader for reader in readers}
        self.features = self._chosen(features) if features is not None else self._alive()
        self.vocabulary = Vocabulary.load(self.raw_dir)

    def __len__(self) -> int:
        return len(self.features)

    def __iter__(self) -> Iterator[FeatureEntries]:
        return (self.entries(feature) for feature in self.features)

    def entries(self, feature: FeatureId) -> FeatureEntries:
        """All activations of one feature; empty when it never fired."""
        if feature.module_path not in self.readers:
            raise UnknownNameError("module path", feature.module_path, self.readers)
        return self.readers[feature.module_path].entries(feature.index)

    def _alive(self) -> list[FeatureId]:
        return [
            FeatureId(module, int(index))
            for module, reader in self.readers.items()
            for index in np.flatnonzero(reader.statistics()["n_activations"])
        ]

    def _chosen(self, features: Mapping[str, Iterable[SupportsIndex]]) -> list[FeatureId]:
        chosen: list[FeatureId] = []
        for module, indices in features.items():
            if module not in self.readers:
                raise UnknownNameError("module path", module, self.readers)
            for index in map(index_of, indices):
                self.readers[module].shard_of(index)  # raises for one beyond the width
                chosen.append(FeatureId(module, index))
        return chosen
