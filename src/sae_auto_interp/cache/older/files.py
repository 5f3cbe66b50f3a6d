"""Shards that the original library and delphi, its successor, wrote: told apart by what is in them, loaded sorted.

    original  `{first}_{last}.safetensors`: `locations` int64 [n, 3] = (row, position, feature), `activations` [n]
    delphi    the same names: `locations` uint16 or uint32 [n, 3] = (row, position, feature - first), `activations` [n],
              in most versions `tokens` [rows, ctx_len] in every shard, and a `config.json` beside them

`last` is inclusive in both names. The original kept `first <= feature < last` only: its last feature is in no file.
Entries are sorted by location in what these libraries write, but nothing here relies on it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Int64, Integer

from sae_auto_interp.cache.arrays import ArrayFile
from sae_auto_interp.cache.layout import SHARD_PATTERN, location_dtype
from sae_auto_interp.cache.value_types import ACTIVATION_CODES, as_float32
from sae_auto_interp.errors import CacheError
from sae_auto_interp.types import Array

OlderLayout: TypeAlias = Literal["original", "delphi"]
_LAYOUTS: dict[str, OlderLayout] = {"I64": "original", "U16": "delphi", "U32": "delphi"}
"""Type of `locations` -> who wrote them."""
_ACTIVATION_DTYPES = {code: dtype for dtype, code in ACTIVATION_CODES.items()}


@dataclass(frozen=True, slots=True)
class OlderShard:
    """One file: features `first`..`last` (inclusive) of one module. Nothing but its header has been read."""

    path: Path
    layout: OlderLayout
    first: int
    last: int
    n_activations: int
    location_code: str
    activation_code: str
    token_shape: tuple[int, ...] | None
    """Rows and ctx_len, where the tokens are in the file."""

    @property
    def activation_dtype(self) -> str:
        return _ACTIVATION_DTYPES[self.activation_code]

    @property
    def n_features(self) -> int:
        return self.last - self.first + 1

    def columns(self) -> tuple[Integer[Array, " n"], Integer[Array, " n"], Integer[Array, " n"]]:
        """Row, position and feature - first of each entry, in the file's order.

        Raises `CacheError` for features that the file's name does not have.
        """
        locations = ArrayFile(self.path).mapped("locations")
        features = locations[:, 2] - (self.first if self.layout == "original" else 0)
        if len(features) and not 0 <= int(features.min()) <= int(features.max()) < self.n_features:
            low, high = int(features.min()) + self.first, int(features.max()) + self.first
            raise self.garbled(f"it has features {low}..{high}, its name says {self.first}..{self.last}")
        return locations[:, 0], locations[:, 1], features

    def garbled(self, reason: str) -> CacheError:
        """The error that names this file."""
        return CacheError(f"{self.path} is damaged or foreign: {reason}; copy or cache it again")


@dataclass(frozen=True, slots=True)
class SortedShard:
    """A shard in memory, sorted by feature and then by location, as our own layout has it."""

    offsets: Int64[Array, " features_plus_1"]
    locations: Integer[Array, " n"]
    activations: Array
    """[n] float16 or float32."""


def older_shards(directory: Path) -> tuple[OlderShard, ...]:
    """The shards of a module in order of their features; none when it holds no shard, or only some of our own layout.

    Reads headers only. Raises `CacheError` for a file that is no shard, for files that do not belong together, and for
    features of which no file or more than one should know.
    """
    found = [shard for path in sorted(directory.glob(SHARD_PATTERN)) if (shard := _shard(path)) is not None]
    shards = sorted(found, key=lambda shard: (shard.first, shard.last))
    for name, kinds in (
        ("layouts", {shard.layout for shard in shards}),
        ("types of activations", {shard.activation_dtype for shard in shards}),
        ("shapes of tokens", {shard.token_shape for shard in shards}),
    ):
        if len(kinds) > 1:
            listed = " and ".join(sorted(map(str, kinds)))
            raise CacheError(f"{directory} holds shards of different {name} ({listed}); keep those of one cache")
    _check_ranges(shards, directory)
    return tuple(shards)


def load_sorted(shard: OlderShard, ctx_len: int, n_rows: int) -> SortedShard:
    """Read one shard and sort it in linear time.

    Raises `CacheError` for a feature, row or position out of range, a value that is no number, or one entry given
    twice.
    """
    rows, positions, features = shard.columns()
    for name, column, limit in (("row", rows, n_rows), ("position", positions, ctx_len)):
        if len(column) and not 0 <= int(column.min()) <= int(column.max()) < limit:
            raise shard.garbled(f"{name} {int(column.min())}..{int(column.max())} of {limit}")
    if shard.location_code == "U16" and ctx_len > 1 << 16:
        raise shard.garbled(f"its 16 bits cannot tell the positions of rows of {ctx_len} tokens")
    locations = rows.astype(location_dtype(n_rows * ctx_len + 1))  # also holds ctx_len itself
    locations *= locations.dtype.type(ctx_len)
    locations += positions.astype(locations.dtype)
    activations = _checked_activations(shard)
    order, offsets = _order_by_feature(features, shard.n_features)
    locations = locations[order]
    if not _is_ascending(locations, offsets):
        again = np.lexsort((locations, np.repeat(np.arange(shard.n_features), np.diff(offsets))))
        order, locations = order[again], locations[again]
        if not _is_ascending(locations, offsets):
            raise shard.garbled("a feature fires twice at one token")
    return SortedShard(offsets, locations, activations[order])


def _shard(path: Path) -> OlderShard | None:
    """None for a shard of our own layout, which counts only with its manifest."""
    name = re.fullmatch(r"(\d+)_(\d+)\.safetensors", path.name)
    if name is None or int(name[2]) < int(name[1]):
        raise CacheError(f"{path} is not named as shards are, FIRST_LAST.safetensors; move it elsewhere")
    file = ArrayFile(path)
    if "offsets" in file.names:
        return None
    locations, activations = file.shape("locations"), file.shape("activations")
    if len(activations) != 1 or locations != (*activations, 3):
        raise file.unreadable(f"locations {list(locations)} and activations {list(activations)}, not [n, 3] and [n]")
    codes = file.code("locations"), file.code("activations")
    if codes[0] not in _LAYOUTS or codes[1] not in _ACTIVATION_DTYPES:
        raise file.unreadable(f"locations {codes[0]} and activations {codes[1]} are of no known layout")
    token_shape = file.shape("tokens") if "tokens" in file.names else None
    if token_shape is not None and (len(token_shape) != 2 or 0 in token_shape):
        raise file.unreadable(f"tokens {list(token_shape)}, not [rows, ctx_len]")
    return OlderShard(path, _LAYOUTS[codes[0]], int(name[1]), int(name[2]), activations[0], *codes, token_shape)


def _check_ranges(shards: Sequence[OlderShard], directory: Path) -> None:
    """Every feature up to the last belongs to exactly one file."""
    expected = 0
    for shard in shards:
        if shard.first < expected:
            raise CacheError(f"{directory} has two files with feature {shard.first}; keep those of one cache")
        if shard.first > expected:
            missing = f"{expected}..{shard.first - 1}"
            raise CacheError(f"{directory} has no file with features {missing}: it is incomplete; copy the whole cache")
        expected = shard.last + 1


def _checked_activations(shard: OlderShard) -> Array:
    """The activations as stored; bfloat16 is widened, which loses nothing."""
    held = ArrayFile(shard.path).mapped("activations")
    activations = as_float32(held, "BF16") if shard.activation_code == "BF16" else held
    if not np.isfinite(activations).all():
        n_bad = int((~np.isfinite(activations)).sum())
        raise shard.garbled(f"{n_bad} of its activations are infinite or no number (float16 ends at 65504)")
    return activations


def _order_by_feature(
    features: Integer[Array, " n"], n_features: int
) -> tuple[Int64[Array, " n"], Int64[Array, " features_plus_1"]]:
    """Which entry comes where, entries of one feature as they were, and where each feature begins.

    numpy sorts 16-bit numbers in linear time; wider ones are sorted by their lower and then by their upper half.
    """
    order = np.argsort((features & 0xFFFF).astype(np.uint16), kind="stable")
    if n_features > 1 << 16:
        order = order[np.argsort((features >> 16).astype(np.uint16)[order], kind="stable")]
    offsets = np.zeros(n_features + 1, dtype=np.int64)
    np.cumsum(np.bincount(features, minlength=n_features), out=offsets[1:])
    return order, offsets


def _is_ascending(locations: Integer[Array, " n"], offsets: Int64[Array, " features_plus_1"]) -> bool:
    """Whether each feature's locations increase strictly."""
    increases = locations[1:] > locations[:-1]
    first_of_next = offsets[1:-1]
    inner = first_of_next[(first_of_next > 0) & (first_of_next < len(locations))]
    increases[inner - 1] = True
    return bool(increases.all())
