"""Open a finished cache of one module and read single features out of it."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from sae_auto_interp.cache.arrays import opened, part, whole
from sae_auto_interp.cache.layout import FORMAT_VERSION, MANIFEST, STATISTICS
from sae_auto_interp.cache.merge import sha256_of
from sae_auto_interp.errors import CacheError, InputError
from sae_auto_interp.types import Array, CacheManifest, FeatureEntries, FeatureId, ShardInfo


class CacheReader:
    """A module's cache. Files stay open and memory-mapped; a feature costs one slice.

    Raises `CacheError` when the directory has no manifest (the cache was never finished), was written by a
    newer version, or a file is missing, truncated or (with `verify`) not what the manifest's checksum says.
    """

    def __init__(self, directory: Path, *, verify: bool = False) -> None:
        self.directory = directory
        self.manifest = read_manifest(directory)
        self._opened: dict[str, tuple[Any, Int64[Array, " features_plus_1"]]] = {}
        if verify:
            self.verify()

    @property
    def module_path(self) -> str:
        return self.manifest.module_path

    def entries(self, index: int) -> FeatureEntries:
        """All activations of feature `index`, sorted by location; empty for a feature that never fired."""
        shard = self.shard_of(index)
        path = self.directory / shard.file
        file, offsets = self._open(shard)
        begin, end = int(offsets[index - shard.first]), int(offsets[index - shard.first + 1])
        locations = part(file, "locations", begin, end, path).astype(np.int64)
        activations = part(file, "activations", begin, end, path).astype(np.float32)
        return FeatureEntries(FeatureId(self.module_path, index), locations, activations)

    def statistics(self) -> dict[str, Int64[Array, " width"] | Float64[Array, " width"]]:
        """`n_activations`, `max`, `sum` and `sum_of_squares` of every feature."""
        return dict(self._statistics)

    def verify(self) -> None:
        """Read every byte of every shard and compare with the manifest's checksums; counts with the statistics."""
        counts = self._statistics["n_activations"]
        for shard in self.manifest.shards:
            path = self.directory / shard.file
            if not path.is_file():
                raise CacheError(f"the cache lost {path}; delete {self.directory} and cache again")
            if sha256_of(path) != shard.sha256:
                raise self._damaged(path, "its checksum is not the manifest's")
            if not np.array_equal(np.diff(self._open(shard)[1]), counts[shard.first : shard.last + 1]):
                raise self._damaged(self.directory / STATISTICS, f"its counts are not those of {shard.file}")

    def shard_of(self, index: int) -> ShardInfo:
        """The file that holds a feature; raises `InputError` for an index outside the width."""
        for shard in self.manifest.shards:
            if shard.first <= index <= shard.last:
                return shard
        width = self.manifest.width
        raise InputError(f"{self.module_path} has no feature {index}: its width is {width}; give 0 to {width - 1}")

    @cached_property
    def _statistics(self) -> dict[str, Array]:
        path = self.directory / STATISTICS
        file = opened(path)
        arrays = {name: whole(file, name, path) for name in ("n_activations", "max", "sum", "sum_of_squares")}
        if any(array.shape != (self.manifest.width,) for array in arrays.values()):
            raise self._damaged(path, f"it is not about {self.manifest.width} features")
        return arrays

    def _open(self, shard: ShardInfo) -> tuple[Any, Int64[Array, " features_plus_1"]]:
        if shard.file not in self._opened:
            path = self.directory / shard.file
            file = opened(path)
            offsets = whole(file, "offsets", path)
            if len(offsets) != shard.last - shard.first + 2 or offsets[-1] != shard.n_activations:
                raise self._damaged(path, "its offsets are not those of the manifest")
            self._opened[shard.file] = file, offsets
        return self._opened[shard.file]

    def _damaged(self, path: Path, reason: str) -> CacheError:
        return CacheError(f"{path} is damaged: {reason}; delete {self.directory} and cache again")


def read_manifest(directory: Path) -> CacheManifest:
    """The manifest of a finished cache; raises `CacheError` when there is none or it cannot be read."""
    path = directory / MANIFEST
    if not path.is_file():
        raise CacheError(f"{directory} holds no finished cache (no {MANIFEST}); run the cache stage again, it resumes")
    try:
        text = path.read_text(encoding="utf-8")
        _refuse_newer(json.loads(text)["format_version"], path)
        return CacheManifest.from_json(text)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        message = f"{path} is damaged or not a cache manifest ({error}); delete {directory} and cache again"
        raise CacheError(message) from error


def _refuse_newer(version: int, path: Path) -> None:
    """Before the rest is read: a newer format may have other fields."""
    if version > FORMAT_VERSION:
        raise CacheError(f"{path} was written by a newer version (format {version}); update sae-auto-interp")
