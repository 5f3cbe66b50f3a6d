"""Open a finished cache of one module and read single features out of it.

Names that come out of files and become paths: a module's directory and its shards are called as we would call them.

A cache may come from anybody, and its checksums with it. What a manifest calls its module is where a run later writes
(triage, neighbours, converted shards), so that a name with `..` in it would write somewhere else.
"""

import json
import logging
from bisect import bisect_right
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from sae_auto_interp.cache.arrays import ArrayFile
from sae_auto_interp.cache.files import sha256_of
from sae_auto_interp.cache.layout import FORMAT_VERSION, MANIFEST, MASKED, STATISTICS, read_masked, shard_name
from sae_auto_interp.cache.source import EntrySource, Piece
from sae_auto_interp.cache.statistics import PER_FEATURE, POSITION_TOTALS, Statistics, read_statistics
from sae_auto_interp.cache.value_types import CODE_OF, activation_code, as_float32
from sae_auto_interp.errors import CacheError, InputError
from sae_auto_interp.types import Array, CacheManifest, FeatureEntries, FeatureId, ShardInfo

LONGEST_NAME_BYTES = 255


def check_module_path(name: object, directory: Path) -> None:
    """Raise `CacheError` unless the module path that a manifest in `directory` gives is the directory's name."""
    if not isinstance(name, str) or not is_file_name(name):
        raise CacheError(f"{directory}: its manifest is of module {name!r}, which cannot be the name of a directory")
    if name not in (directory.absolute().name, directory.resolve().name):
        raise CacheError(f"{directory}: its manifest is of module {name!r}; rename the directory to that, or delete it")


def is_file_name(name: str) -> bool:
    """Whether a name stays where it is joined to: one part of a path on any system, without control characters."""
    return (
        0 < len(name.encode("utf-8", "surrogatepass")) <= LONGEST_NAME_BYTES
        and name not in (".", "..")
        and not any(character in "/\\" or not (character.isprintable() or character == " ") for character in name)
    )


logger = logging.getLogger(__name__)


class _Shard(NamedTuple):
    """The memory-mapped columns of an opened shard."""

    file: ArrayFile
    offsets: Int64[Array, " features_plus_1"]
    locations: Array
    activations: Array


class CacheReader:
    """A module's cache. Files stay open and memory-mapped; a feature costs one slice.

    Raises `CacheError` when the directory has no manifest (the cache was never finished), was written by a
    newer version, or a file is missing, truncated, foreign or (with `verify`) not what the manifest's checksum says.
    """

    def __init__(self, directory: Path, *, verify: bool = False) -> None:
        self.directory = directory
        self.manifest = read_manifest(directory)
        self._firsts = [shard.first for shard in self.manifest.shards]
        self._opened: dict[str, _Shard] = {}
        if verify:
            self.verify()

    @property
    def module_path(self) -> str:
        return self.manifest.module_path

    def entries(self, index: int) -> FeatureEntries:
        """All activations of feature `index`, sorted by location; empty for a feature that never fired."""
        locations, activations, file = self._slice(index)
        values = as_float32(activations, file.code("activations"))
        return FeatureEntries(FeatureId(self.module_path, index), locations.astype(np.int64), values)

    def position_counts(self, index: int) -> Int64[Array, " ctx_len"]:
        """On how many rows feature `index` fires at each position."""
        locations, _, _ = self._slice(index)
        ctx_len = self.manifest.ctx_len
        return np.bincount(locations.astype(np.int64) % ctx_len, minlength=ctx_len)

    def statistics(self) -> dict[str, Int64[Array, " width"] | Float64[Array, " width"]]:
        """`n_activations`, `n_active_rows`, `max`, `sum` and `sum_of_squares` of every feature.

        A cache of format 1 does not keep all of them: they are then computed, once, from all its entries.
        """
        return {name: self._statistics[name] for name in PER_FEATURE}

    def position_totals(self) -> Int64[Array, " ctx_len"]:
        """Activations of all features together at each position of the rows."""
        return self._statistics[POSITION_TOTALS]

    def masked_positions(self) -> Int64[Array, " n"]:
        """Flat token indices that were not read because of their norm, in order; none without a norm mask."""
        mask = self.manifest.norm_mask
        if mask is None:
            return np.empty(0, np.int64)
        return read_masked(self.directory, mask.n_positions, self.manifest.n_positions)

    def verify(self) -> None:
        """Read every byte and compare with the manifest's checksums, and counts with the statistics."""
        checksums = {shard.file: shard.sha256 for shard in self.manifest.shards}
        if self.manifest.statistics_sha256:
            checksums[STATISTICS] = self.manifest.statistics_sha256
        if self.manifest.norm_mask is not None:
            checksums[MASKED] = self.manifest.norm_mask.sha256
        for name, checksum in checksums.items():
            path = self.directory / name
            if not path.is_file():
                raise CacheError(f"the cache lost {path}; delete {self.directory} and cache again")
            if sha256_of(path) != checksum:
                raise self._damaged(path, "its checksum is not the manifest's")
        counts = self._statistics["n_activations"]
        for shard in self.manifest.shards:
            if not np.array_equal(np.diff(self._open(shard).offsets), counts[shard.first : shard.last + 1]):
                raise self._damaged(self.directory / STATISTICS, f"its counts are not those of {shard.file}")

    def shard_of(self, index: int) -> ShardInfo:
        """The file that holds a feature; raises `InputError` for an index outside the width."""
        width = self.manifest.width
        if not 0 <= index < width:
            raise InputError(f"{self.module_path} has no feature {index}: its width is {width}; give 0 to {width - 1}")
        return self.manifest.shards[bisect_right(self._firsts, index) - 1]

    def source(self, shift: int = 0) -> EntrySource:
        """All entries in the order of the store, for a merge; `shift` is added to every location."""
        shards = self.manifest.shards
        return EntrySource([Piece(self._open(shard).file, shard.first, shard.last) for shard in shards], shift)

    def _slice(self, index: int) -> tuple[Array, Array, ArrayFile]:
        shard = self.shard_of(index)
        file, offsets, locations, activations = self._open(shard)
        begin, end = int(offsets[index - shard.first]), int(offsets[index - shard.first + 1])
        if end > begin and int(locations[end - 1]) >= self.manifest.n_positions:
            raise self._damaged(file.path, f"feature {index} has a location beyond the {self.manifest.n_rows} rows")
        return locations[begin:end], activations[begin:end], file

    @cached_property
    def _statistics(self) -> dict[str, Array]:
        manifest = self.manifest
        if manifest.format_version == 1:
            return self._computed_statistics()
        file = ArrayFile(self.directory / STATISTICS)
        return read_statistics(file, manifest.width, manifest.n_positions, manifest.ctx_len)

    def _computed_statistics(self) -> dict[str, Array]:
        logger.info("%s is of format 1: its statistics are computed from all its activations", self.directory)
        statistics = Statistics(self.manifest.width, self.manifest.ctx_len)
        for index in range(self.manifest.width):
            locations, activations, file = self._slice(index)
            values = as_float32(activations, file.code("activations"))
            statistics.add(index, np.array([len(locations)]), locations, values)
        return {name: getattr(statistics, name) for name in (*PER_FEATURE, POSITION_TOTALS)}

    def _open(self, shard: ShardInfo) -> _Shard:
        if shard.file not in self._opened:
            path = self.directory / shard.file
            file = ArrayFile(path)
            manifest, n = self.manifest, (shard.n_activations,)
            file.require(
                {
                    "offsets": ("I64", (shard.last - shard.first + 2,)),
                    "locations": (CODE_OF[np.dtype(manifest.location_dtype)], n),
                    "activations": (activation_code(manifest.activation_dtype), n),
                }
            )
            offsets = file.read("offsets")
            if offsets[0] != 0 or offsets[-1] != shard.n_activations or (np.diff(offsets) < 0).any():
                raise self._damaged(path, "its offsets are not those of the manifest")
            self._opened[shard.file] = _Shard(file, offsets, file.mapped("locations"), file.mapped("activations"))
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
        manifest = CacheManifest.from_json(text)
        check_module_path(manifest.module_path, directory)
        _check_plan(manifest)
    except (AttributeError, InputError, KeyError, OSError, RecursionError, TypeError, ValueError) as error:
        message = f"{path} is damaged or not a cache manifest ({error}); delete {directory} and cache again"
        raise CacheError(message) from error
    return manifest


def _check_plan(manifest: CacheManifest) -> None:
    """Raises ValueError (or `InputError`) unless the shards cover the width, under their names, and types are known."""
    sizes = {"n_rows": manifest.n_rows, "ctx_len": manifest.ctx_len, "width": manifest.width}
    for name, size in sizes.items():
        if type(size) is not int or not 0 < size < 1 << 48:
            raise ValueError(f"{name} is {size!r}")
    activation_code(manifest.activation_dtype)
    CODE_OF[np.dtype(manifest.location_dtype)]
    next_first = 0
    for shard in manifest.shards:
        if shard.first != next_first or shard.last < shard.first:
            raise ValueError(f"{shard.file} does not begin at feature {next_first}")
        if shard.file != shard_name(shard.first, shard.last):
            raise ValueError(f"{shard.file!r} is not the name of features {shard.first} to {shard.last}")
        next_first = shard.last + 1
    if next_first != manifest.width:
        raise ValueError(f"its shards hold {next_first} of {manifest.width} features")


def _refuse_newer(version: int, path: Path) -> None:
    """Before the rest is read: a newer format may have other fields."""
    if version > FORMAT_VERSION:
        raise CacheError(f"{path} was written by a newer version (format {version}); update sae-auto-interp")
