"""Neighbours of features as a value: who is near whom by which measure, of which cache or weights, saved and loaded.

They are computed in `cosine_neighbours` (alike directions) and `cooccurrence` (firing together).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import index as index_of
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Float32, Int64
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save  # pyright: ignore[reportUnknownVariableType]

from sae_auto_interp.cache.files import DurableFile
from sae_auto_interp.errors import CacheError, InputError
from sae_auto_interp.features.config import NeighbourKind as NeighbourKind
from sae_auto_interp.types import Array, CacheManifest, FeatureId

FORMAT_VERSION = 1
_METADATA = "neighbours"


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The nearest features of some features of one module, best first."""

    module_path: str
    kind: NeighbourKind
    """What `values` are: cosine of decoder or encoder rows, Jaccard index, or pointwise mutual information in nats."""
    source: str
    """What they were computed from (`source_of`): the checksum of the weights, or the fingerprint of the cache."""
    features: Int64[Array, " m"]
    indices: Int64[Array, "m n"]
    """-1 where a feature has fewer than n neighbours."""
    values: Float32[Array, "m n"]
    """NaN where there is no neighbour."""
    unit_tokens: int | None = None
    """Tokens per unit in which firing together was counted; None for directions."""
    min_count: int | None = None
    """Units that a pair had to share; None for directions."""

    def by_feature(self) -> dict[FeatureId, list[tuple[FeatureId, float]]]:
        """{feature: its neighbours with their values, best first}."""
        return {
            FeatureId(self.module_path, int(feature)): [
                (FeatureId(self.module_path, int(index)), float(value))
                for index, value in zip(indices, values, strict=True)
                if index >= 0
            ]
            for feature, indices, values in zip(self.features, self.indices, self.values, strict=True)
        }

    def distances(self) -> dict[FeatureId, list[tuple[FeatureId, float]]]:
        """{feature: its neighbours with their distances, nearest first}: 1 - cosine, 1 - Jaccard index, or -PMI."""
        largest = 0.0 if self.kind == "pmi" else 1.0
        return {
            feature: [(other, largest - value) for other, value in near] for feature, near in self.by_feature().items()
        }

    def save(self, directory: Path) -> Path:
        """Write `directory/{module path}/{kind}.safetensors`, which appears all at once; returns its path."""
        path = file_of(directory, self.module_path, self.kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {
            "format_version": FORMAT_VERSION, "module_path": self.module_path, "kind": self.kind, "source": self.source,
            "unit_tokens": self.unit_tokens, "min_count": self.min_count,
        }  # fmt: skip
        arrays = {"features": self.features, "indices": self.indices.astype(np.int32), "values": self.values}
        facts["sha256"] = _digest(arrays, facts)
        with DurableFile(path) as file:
            file.write(save(arrays, metadata={_METADATA: json.dumps(facts)}), at=0)
        return path


def load_neighbours(directory: Path, manifest: CacheManifest, kind: NeighbourKind) -> Neighbours:
    """The saved neighbours of a cached module.

    Raises `CacheError` when there are none, when the file is damaged, and when it was computed from another cache
    (or, for directions, from other weights).
    """
    path = file_of(directory, manifest.module_path, kind)
    again = f"run `sae-auto-interp neighbours` with --kind {kind}"
    if not path.is_file():
        raise CacheError(f"{path} is not there: no {kind} neighbours of {manifest.module_path} were saved; {again}")
    found = _read(path, again)
    if (found.module_path, found.kind) != (manifest.module_path, kind):
        raise CacheError(f"{path} holds {found.kind} neighbours of {found.module_path}; {again}")
    if found.source != source_of(manifest, kind):
        what = "weights" if _is_direction(kind) else "activations"
        raise CacheError(f"{path} was computed from other {what} than those of this cache; {again}")
    return found


def source_of(manifest: CacheManifest, kind: NeighbourKind) -> str:
    """What decides neighbours: the weights for directions, all that is cached for firing together."""
    return manifest.weights_sha256 if _is_direction(kind) else manifest.fingerprint


def file_of(directory: Path, module_path: str, kind: NeighbourKind) -> Path:
    """Where neighbours of one kind are kept."""
    return directory / module_path / f"{kind}.safetensors"


def chosen_features(features: Iterable[SupportsIndex] | None, width: int) -> Int64[Array, " m"]:
    """The indices asked for, in their order (None: all); raises `InputError` for one outside the width or twice."""
    if features is None:
        return np.arange(width, dtype=np.int64)
    chosen = np.array([index_of(feature) for feature in features], dtype=np.int64)
    beyond = chosen[(chosen < 0) | (chosen >= width)]
    if len(beyond):
        raise InputError(f"there is no feature {beyond[0]}: the width is {width}; give 0 to {width - 1}")
    values, counts = np.unique(chosen, return_counts=True)
    if (counts > 1).any():
        raise InputError(f"feature {values[counts > 1][0]} is asked for more than once; give each feature once")
    return chosen


def check_n(n: int) -> None:
    """Raise `InputError` unless at least one neighbour is asked for."""
    if n < 1:
        raise InputError(f"n={n} neighbours; give at least 1")


def _is_direction(kind: NeighbourKind) -> bool:
    return kind in ("decoder", "encoder")


def _read(path: Path, again: str) -> Neighbours:
    try:
        file: Any = safe_open(path, framework="numpy")
        metadata: dict[str, str] = file.metadata() or {}
        facts: dict[str, Any] = json.loads(metadata[_METADATA])
        if facts["format_version"] > FORMAT_VERSION:
            raise CacheError(f"{path} was written by a newer version; update sae-auto-interp")
        arrays = {name: file.get_tensor(name) for name in ("features", "indices", "values")}
        checksum = facts.pop("sha256", None)
        if checksum not in (None, _digest(arrays, facts)):  # files of earlier versions have none
            raise ValueError("its checksum is not that of its content")
        del facts["format_version"]
        arrays["indices"] = arrays["indices"].astype(np.int64)
        found = Neighbours(**arrays, **facts)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CacheError(f"{path} is damaged or holds no neighbours ({error}); delete it and {again}") from error
    m = len(found.features)
    if found.indices.ndim != 2 or found.indices.shape != found.values.shape or len(found.indices) != m:
        raise CacheError(f"{path} is damaged: its arrays do not fit each other; delete it and {again}")
    return found


def _digest(arrays: Mapping[str, Array], facts: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
