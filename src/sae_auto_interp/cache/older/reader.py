"""Open a module's cache that the original library or delphi wrote, with the same methods as `CacheReader`.

These layouts have no index: to look at one feature its whole shard is read and sorted. The last shards are kept,
`LoadedShards.CAPACITY` of them for all modules together, so features are best read in order; `convert` makes a cache
that needs no such care.

How many rows were cached is the number of rows of the stored tokens. Where none are stored it is that of the last row
with an activation in any module: of later rows nobody knows whether they were left out or fired nothing.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int32, Int64

from sae_auto_interp.cache.arrays import ArrayFile
from sae_auto_interp.cache.layout import location_dtype
from sae_auto_interp.cache.older.files import OlderLayout, OlderShard, SortedShard, load_sorted, older_shards
from sae_auto_interp.cache.older.loaded_shards import LoadedShards, RowCount
from sae_auto_interp.cache.statistics import CHUNK_ENTRIES, PER_FEATURE, Statistics
from sae_auto_interp.cache.tokens import rows_of_arrays
from sae_auto_interp.errors import CacheError, InputError
from sae_auto_interp.types import Array, CacheManifest, FeatureEntries, FeatureId, ShardInfo, TokenRows

CONFIG = "config.json"
UNKNOWN = "unknown"
_SAMPLE_BYTES = 1 << 16
_logger = logging.getLogger(__name__)


class OlderCacheReader:
    """A module's cache in an older layout; `layout` says whose. Opening reads headers only.

    `stored` are token rows kept beside the cache, where there are some. `ctx_len` is needed only where neither tokens
    nor a `config.json` are stored. Raises `CacheError` for files that are damaged or do not belong together, and
    `InputError` when the length of a row is not known, or is not what `ctx_len` says.
    """

    def __init__(
        self,
        directory: Path,
        *,
        ctx_len: int | None = None,
        stored: TokenRows | None = None,
        loaded: LoadedShards | None = None,
    ) -> None:
        self.directory = directory
        self.module_path = directory.name
        self.shards = older_shards(directory)
        if not self.shards:
            raise CacheError(f"{directory} holds no shard of an older layout")
        self.layout: OlderLayout = self.shards[0].layout
        self.width = self.shards[-1].last + 1
        self._config = _read_config(directory / CONFIG)
        self._stored = stored
        self.ctx_len = self._checked_ctx_len(ctx_len)
        self.row_count = RowCount(self.shards, self.ctx_len)
        self._loaded = loaded or LoadedShards()
        self._warned: set[Path] = set()
        _logger.info("%s is in the layout of %s", directory, self.layout)
        if self.layout == "delphi" and not self._config:
            _logger.warning("%s has no %s: whoever wrote it may have been interrupted", directory, CONFIG)

    @property
    def stores_tokens(self) -> bool:
        """Whether the number of cached rows is known for sure."""
        return self._stored is not None or self.shards[0].token_shape is not None

    @cached_property
    def n_rows(self) -> int:
        if self._stored is not None:
            return self._stored.n_rows
        shape = self.shards[0].token_shape
        return shape[0] if shape is not None else self.row_count.value

    @cached_property
    def manifest(self) -> CacheManifest:
        """What these layouts tell about the cache; what they do not tell is "unknown", and no file has a checksum."""
        shards = tuple(ShardInfo(s.path.name, s.first, s.last, s.n_activations, sha256="") for s in self.shards)
        return CacheManifest(
            format_version=0,
            module_path=self.module_path,
            model=str(self._config.get("model_name", UNKNOWN)),
            autoencoder=f"{UNKNOWN}: the cache came in the layout of {self.layout}",
            weights_sha256="",
            data=str(self._config.get("dataset_repo", UNKNOWN)),
            n_rows=self.n_rows,
            ctx_len=self.ctx_len,
            width=self.width,
            activation_dtype=self.shards[0].activation_dtype,
            location_dtype=str(location_dtype(self.n_rows * self.ctx_len)),
            shards=shards,
            fingerprint=self._fingerprint(),
        )

    @cached_property
    def n_activations(self) -> Int64[Array, " width"]:
        """How often each feature fires: counted without sorting."""
        counts = [np.bincount(shard.columns()[2], minlength=shard.n_features) for shard in self.shards]
        return np.concatenate(counts).astype(np.int64)

    def entries(self, index: int) -> FeatureEntries:
        """All activations of feature `index`, sorted by location; empty for a feature that never fired."""
        shard = self._shard_of(index)
        loaded = self.load(shard)
        begin, end = loaded.offsets[index - shard.first : index - shard.first + 2].tolist()
        locations, activations = loaded.locations[begin:end], loaded.activations[begin:end]
        feature = FeatureId(self.module_path, index)
        return FeatureEntries(feature, locations.astype(np.int64), activations.astype(np.float32))

    def load(self, shard: OlderShard) -> SortedShard:
        """A shard, sorted; the last few are kept."""
        return self._loaded.get(shard.path, lambda: self._load(shard))

    def shard_of(self, index: int) -> ShardInfo:
        """The file that holds a feature; raises `InputError` for an index outside the width."""
        shard = self._shard_of(index)
        return ShardInfo(shard.path.name, shard.first, shard.last, shard.n_activations, sha256="")

    def statistics(self) -> dict[str, Int64[Array, " width"] | Float64[Array, " width"]]:
        """As those of `CacheReader`; the first time, every shard is loaded."""
        return {name: getattr(self._statistics, name) for name in PER_FEATURE}

    def position_totals(self) -> Int64[Array, " ctx_len"]:
        """Activations of all features together at each position of the rows."""
        return self._statistics.position_totals

    def position_counts(self, index: int) -> Int64[Array, " ctx_len"]:
        """How often a feature fires at each position of the rows."""
        return np.bincount(self.entries(index).locations % self.ctx_len, minlength=self.ctx_len)

    def verify(self) -> None:
        """Read every byte: ranges, values, order, and that all shards have the same tokens. There are no checksums."""
        for shard in self.shards:
            self.load(shard)
            if shard.token_shape is not None and not np.array_equal(self._raw_tokens(shard), self._raw_tokens()):
                raise shard.garbled(f"its tokens are not those of {self.shards[0].path.name}")

    def tokens(self) -> TokenRows | None:
        """The stored token rows; None where the layout or its version keeps none."""
        if self._stored is not None or self.shards[0].token_shape is None:
            return self._stored
        file = ArrayFile(self.shards[0].path)
        names = file.names & {"tokens", "documents", "document_names"}
        try:
            return rows_of_arrays({name: file.read(name).reshape(file.shape(name)) for name in names})
        except (KeyError, ValueError) as error:
            raise self.shards[0].garbled(str(error)) from error

    def _raw_tokens(self, shard: OlderShard | None = None) -> Int32[Array, "n_rows ctx_len"] | Array:
        return ArrayFile((shard or self.shards[0]).path).mapped("tokens")

    def _load(self, shard: OlderShard) -> SortedShard:
        loaded = load_sorted(shard, self.ctx_len, self.n_rows)
        self._warn(shard, loaded)
        return loaded

    def _warn(self, shard: OlderShard, loaded: SortedShard) -> None:
        """Say once what is odd about a shard and no error."""
        if self.directory not in self._warned and (loaded.activations < 0).any():
            self._warned.add(self.directory)
            _logger.warning("%s holds activations below zero; they count as firing, as they did there", self.directory)
        if self.layout == "original" and shard.path not in self._warned and loaded.offsets[-1] == loaded.offsets[-2]:
            self._warned.add(shard.path)
            _logger.warning(
                "%s has no activation of feature %d: the original library left out the last feature of each shard, "
                "whether it fires or not", shard.path, shard.last,
            )  # fmt: skip

    def _fingerprint(self) -> str:
        """Hash of the names and sizes of the shards, and of the first and last bytes of each."""
        digest = hashlib.sha256(json.dumps([self.layout, self.module_path, self.ctx_len, self.n_rows]).encode())
        for shard in self.shards:
            with shard.path.open("rb") as stream:
                size = stream.seek(0, 2)
                digest.update(f"{shard.path.name} {size} ".encode())
                for place in (0, max(0, size - _SAMPLE_BYTES)):
                    stream.seek(place)
                    digest.update(stream.read(_SAMPLE_BYTES))
        return digest.hexdigest()

    def _shard_of(self, index: int) -> OlderShard:
        for shard in self.shards:
            if shard.first <= index <= shard.last:
                return shard
        message = f"{self.module_path} has no feature {index}: its width is {self.width}; give 0 to {self.width - 1}"
        raise InputError(message)

    @cached_property
    def _statistics(self) -> Statistics:
        statistics = Statistics(self.width, self.ctx_len)
        for shard in self.shards:
            loaded = self.load(shard)
            for begin, end in _blocks(loaded.offsets):
                offsets = loaded.offsets[begin : end + 1]
                entries = slice(int(offsets[0]), int(offsets[-1]))
                activations = loaded.activations[entries].astype(np.float32)
                statistics.add(shard.first + begin, np.diff(offsets), loaded.locations[entries], activations)
        return statistics

    def _checked_ctx_len(self, given: int | None) -> int:
        """The length of a row as tokens, configuration or caller have it, in this order; all that say so agree."""
        stored = self._stored.ctx_len if self._stored is not None else None
        in_shards = self.shards[0].token_shape[1] if self.shards[0].token_shape is not None else None
        in_config = self._config.get("cache_ctx_len", self._config.get("ctx_len"))
        known = next((n for n in (in_shards, stored, in_config) if n is not None), given)
        if known is None:
            raise InputError(
                f"{self.directory} is in the layout of {self.layout} and does not say how long its rows are; "
                "pass the tokens that were cached, or ctx_len"
            )
        for found in (stored, given):
            if found is not None and found != known:
                raise InputError(f"{self.directory} has rows of {known} tokens, not of {found}; pass those it is of")
        if not isinstance(known, int) or known < 1:
            raise CacheError(f"{self.directory} says that its rows have {known!r} tokens; correct its {CONFIG}")
        return known


def _blocks(offsets: Int64[Array, " features_plus_1"]) -> Iterator[tuple[int, int]]:
    """First and last feature (exclusive) of blocks of at most `CHUNK_ENTRIES`; a denser feature is one by itself."""
    begin, n_features = 0, len(offsets) - 1
    while begin < n_features:
        fits = int(np.searchsorted(offsets, int(offsets[begin]) + CHUNK_ENTRIES, side="right")) - 1
        end = max(fits, begin + 1)
        yield begin, end
        begin = end


def _read_config(path: Path) -> dict[str, Any]:
    """delphi's settings of the cache; nothing when there are none."""
    if not path.is_file():
        return {}
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        return dict(content)
    except (ValueError, TypeError) as error:
        raise CacheError(f"{path} is damaged ({error}); correct it, or take it away and pass ctx_len") from error
