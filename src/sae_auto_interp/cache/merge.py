"""Feature-sorted runs -> final shards: one linear pass per shard, no sort.

Every run is sorted by feature and the runs follow each other in location, so an entry's place in the shard is the
feature's offset plus what earlier runs hold of that feature plus its rank in its own run. A shard is made a block of
whole features at a time; memory is that of a block, or of the densest single feature.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from sae_auto_interp.cache.arrays import ArrayWriter, opened, part
from sae_auto_interp.cache.layout import STATISTICS, shard_name, write_arrays
from sae_auto_interp.types import Array, ShardInfo

BLOCK_ENTRIES = 1 << 20
"""Activations merged at a time: about 40 MiB with what goes with them."""
_FLOAT64 = np.dtype(np.float64)


@dataclass(frozen=True, slots=True)
class _RunPart:
    """What one run holds of the features of one shard."""

    path: Path
    file: Any
    offsets: Int64[Array, " features_plus_1"]


def merge_runs(runs: Sequence[Path], directory: Path, ranges: Sequence[tuple[int, int]]) -> tuple[ShardInfo, ...]:
    """Write each shard and the per-feature statistics into `directory`; describes the shards."""
    assert runs, "a finished spool has at least one run, which may be empty"
    directory.mkdir(parents=True, exist_ok=True)
    files = [(run, opened(run)) for run in runs]
    shards: list[ShardInfo] = []
    statistics: list[dict[str, Array]] = []
    for first, last in ranges:
        path = directory / shard_name(first, last)
        parts = [_RunPart(run, file, part(file, "offsets", first, last + 2, run)) for run, file in files]
        statistics.append(_merge_shard(parts, path))
        n_activations = int(statistics[-1]["n_activations"].sum())
        shards.append(ShardInfo(path.name, first, last, n_activations, sha256_of(path)))
    write_arrays(directory / STATISTICS, _joined(statistics))
    return tuple(shards)


def sha256_of(path: Path) -> str:
    """Checksum of a file's bytes."""
    with path.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def _merge_shard(parts: Sequence[_RunPart], path: Path) -> dict[str, Array]:
    """Write one shard; returns the statistics of its features."""
    offsets = _offsets_of_all(parts)
    arrays = {"offsets": (offsets.dtype, len(offsets))}
    for name in ("locations", "activations"):
        arrays[name] = part(parts[0].file, name, 0, 0, parts[0].path).dtype, int(offsets[-1])
    statistics: list[dict[str, Array]] = []
    with ArrayWriter(path, arrays) as shard:
        shard.append("offsets", offsets)
        for begin, end in _blocks(offsets, BLOCK_ENTRIES):
            starts = offsets[begin : end + 1] - offsets[begin]
            columns = _merged_columns(parts, begin, end, starts)
            for name, column in columns.items():
                shard.append(name, column)
            statistics.append(_statistics(starts, columns["activations"]))
    return _joined(statistics)


def _offsets_of_all(parts: Sequence[_RunPart]) -> Int64[Array, " features_plus_1"]:
    offsets = np.zeros(len(parts[0].offsets), dtype=np.int64)
    for piece in parts:
        offsets += piece.offsets - piece.offsets[0]
    return offsets


def _blocks(offsets: Int64[Array, " features_plus_1"], max_entries: int) -> Iterator[tuple[int, int]]:
    """First and last feature (exclusive) of blocks of at most `max_entries`; a denser feature is a block by itself."""
    begin, n_features = 0, len(offsets) - 1
    while begin < n_features:
        fits = int(np.searchsorted(offsets, int(offsets[begin]) + max_entries, side="right")) - 1
        end = max(fits, begin + 1)
        yield begin, end
        begin = end


def _merged_columns(
    parts: Sequence[_RunPart], begin: int, end: int, starts: Int64[Array, " features_plus_1"]
) -> dict[str, Array]:
    """Locations and activations of features `begin` to `end` of a shard, over all runs."""
    next_place = starts[:-1].copy()
    merged: dict[str, Array] = {}
    for piece in parts:
        offsets = piece.offsets[begin : end + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        counts = np.diff(offsets)
        places = np.arange(last - first) + np.repeat(next_place - (offsets[:-1] - first), counts)
        for name in ("locations", "activations"):
            column = part(piece.file, name, first, last, piece.path)
            merged.setdefault(name, np.empty(int(starts[-1]), dtype=column.dtype))[places] = column
        next_place += counts
    return merged


def _statistics(starts: Int64[Array, " features_plus_1"], activations: Array) -> dict[str, Array]:
    """Count, maximum, sum and sum of squares of each feature's activations, as stored."""
    counts = np.diff(starts)
    fires = counts > 0
    owner = np.repeat(np.arange(len(counts)), counts)
    values = activations.astype(_FLOAT64)
    maximum = np.zeros(len(counts))
    if len(values):
        maximum[fires] = np.maximum.reduceat(values, starts[:-1][fires])
    return {
        "n_activations": counts,
        "max": maximum,
        "sum": np.bincount(owner, values, minlength=len(counts)),
        "sum_of_squares": np.bincount(owner, values * values, minlength=len(counts)),
    }


def _joined(statistics: Sequence[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([piece[name] for piece in statistics]) for name in statistics[0]}
