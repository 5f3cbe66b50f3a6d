"""Open a finished cache of one module and read single features out of it."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from safetensors import SafetensorError, safe_open

from sae_auto_interp.cache.layout import FORMAT_VERSION, MANIFEST, STATISTICS, read_slice
from sae_auto_interp.cache.merge import sha256_of
from sae_auto_interp.errors import CacheError, UnknownNameError
from sae_auto_interp.types import Array, CacheManifest, FeatureEntries, FeatureId, ShardInfo


class CacheReader:
    """A module's cache. Files stay open and memory-mapped; a feature costs one slice.

    Raises `CacheError` when the directory has no manifest (the cache was never finished), was written by a
    newer version, or a file is missing, truncated or (with `verify`) not what the manifest's checksum says.
    """

    def __init__(self, directory: Path, *, verify: bool = False) -> None:
        self.directory = directory
        self.manifest = read_manifest(directory)
        if verify:
            self.verify()
        self._open_shard = lru_cache(maxsize=None)(self._open)

    @property
    def module_path(self) -> str:
        return self.manifest.module_path

    def entries(self, index: int) -> FeatureEntries:
        """All activations of feature `index`, sorted by location; empty for a feature that never fired."""
        shard = self._shard_of(index)
        file, offsets = self._open_shard(shard.file)
        begin, end = int(offsets[index - shard.first]), int(offsets[index - shard.first + 1])
        locations = read_slice(file, "locations", begin, end).astype(np.int64)
        activations = read_slice(file, "activations", begin, end).astype(np.float32)
        return FeatureEntries(FeatureId(self.module_path, index), locations, activations)

    def statistics(self) -> dict[str, Int64[Array, " width"] | Float64[Array, " width"]]:
        """`n_activations`, `max`, `sum` and `sum_of_squares` of every feature."""
        path = self.directory / STATISTICS
        with _opened(path) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (safe_open is not a mapping)

    def verify(self) -> None:
        """Read every byte and compare with the manifest's checksums."""
        for shard in self.manifest.shards:
            path = self.directory / shard.file
            if not path.is_file():
                raise CacheError(f"the cache lost {path}; delete {self.directory} and cache again")
            if sha256_of(path) != shard.sha256:
                raise CacheError(f"{path} is damaged: its checksum is not the manifest's; delete {self.directory} and cache again")

    def _shard_of(self, index: int) -> ShardInfo:
        for shard in self.manifest.shards:
            if shard.first <= index <= shard.last:
                return shard
        raise UnknownNameError(f"feature of {self.module_path} (width {self.manifest.width})", str(index), [])

    def _open(self, name: str) -> tuple[Any, Int64[Array, " features_plus_1"]]:
        file = _opened(self.directory / name)
        return file, file.get_tensor("offsets")


def read_manifest(directory: Path) -> CacheManifest:
    """The manifest of a finished cache; raises `CacheError` when there is none or it cannot be read."""
    path = directory / MANIFEST
    if not path.is_file():
        raise CacheError(f"{directory} holds no finished cache (no {MANIFEST}); run the cache stage again, it resumes")
    try:
        manifest = CacheManifest.from_json(path.read_text(encoding="utf-8"))
    except (KeyError, TypeError, ValueError) as error:
        raise CacheError(f"{path} is damaged or not a cache manifest ({error}); delete {directory} and cache again") from error
    if manifest.format_version > FORMAT_VERSION:
        raise CacheError(f"{path} was written by a newer version (format {manifest.format_version}); update sae-auto-interp")
    return manifest


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, FileNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CacheError(f"{path} cannot be read ({reason}); delete {path.parent} and cache again") from error
