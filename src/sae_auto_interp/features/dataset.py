"""FeatureDataset: the features of a cache directory, read lazily.

Our own layout gives each feature in one slice. Caches of the original library and of delphi open too
(docs/file_formats.md); of these a shard at a time is sorted in memory.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from operator import index as index_of
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Int64

from sae_auto_interp.cache.opening import activation_counts, open_caches, stored_tokens
from sae_auto_interp.cache.reader import CacheReader
from sae_auto_interp.errors import UnknownNameError
from sae_auto_interp.features.config import FeatureConfig
from sae_auto_interp.features.token_input import token_rows
from sae_auto_interp.features.vocabulary import Vocabulary
from sae_auto_interp.module_names import resolve_module_name
from sae_auto_interp.types import Array, FeatureEntries, FeatureId, TokenRows


class FeatureDataset:
    """Every feature that fired, of every module cached in `raw_dir`; iterating reads one feature at a time.

    `features` gives {module path: indices} to look at only those. `tokens`, the rows that were cached, or their length
    `ctx_len` is needed only for the original library's layout, which does not say how long its rows are. Raises
    `CacheError` when `raw_dir` holds no finished cache, `UnknownNameError` for a module that it does not hold and
    `InputError` for a feature beyond its width or tokens that are not those of the cache.
    """

    def __init__(
        self,
        raw_dir: str | Path,
        cfg: FeatureConfig | None = None,
        *,
        features: Mapping[str, Iterable[SupportsIndex]] | None = None,
        verify: bool = False,
        tokens: Any = None,
        ctx_len: int | None = None,
    ) -> None:
        self.raw_dir = Path(raw_dir)
        self.cfg = cfg or FeatureConfig()
        given = None if tokens is None else token_rows(tokens)
        self.readers = open_caches(self.raw_dir, verify=verify, tokens=given, ctx_len=ctx_len)
        self._given_tokens = given
        self._given_features = None if features is None else self._chosen(features)
        self.vocabulary = Vocabulary.load(self.raw_dir)

    def __len__(self) -> int:
        return len(self.features)

    def __iter__(self) -> Iterator[FeatureEntries]:
        return (self.entries(feature) for feature in self.features)

    @cached_property
    def features(self) -> list[FeatureId]:
        """Those asked for, else all that fired: in an older layout, to know them is to read every shard once."""
        return self._alive() if self._given_features is None else self._given_features

    @cached_property
    def tokens(self) -> TokenRows | None:
        """The cached token rows: those given, else those stored with the cache; None where there are none."""
        return self._given_tokens or stored_tokens(self.raw_dir, self.readers)

    def entries(self, feature: FeatureId) -> FeatureEntries:
        """All activations of one feature; empty when it never fired."""
        if feature.module_path not in self.readers:
            raise UnknownNameError("module path", feature.module_path, self.readers)
        return self.readers[feature.module_path].entries(feature.index)

    def masked_positions(self, module_path: str) -> Int64[Array, " n"]:
        """Flat token indices that a module's norm mask left unread; other layouts know of none."""
        reader = self.readers[module_path]
        return reader.masked_positions() if isinstance(reader, CacheReader) else np.empty(0, np.int64)

    def _alive(self) -> list[FeatureId]:
        return [
            FeatureId(module, int(index))
            for module, reader in self.readers.items()
            for index in np.flatnonzero(activation_counts(reader))
        ]

    def _chosen(self, features: Mapping[str, Iterable[SupportsIndex]]) -> list[FeatureId]:
        chosen: list[FeatureId] = []
        for name, indices in features.items():
            module = resolve_module_name(name, self.readers)
            for index in map(index_of, indices):
                self.readers[module].shard_of(index)  # raises for one beyond the width
                chosen.append(FeatureId(module, index))
        return chosen
