"""Feature-sorted runs -> final shards: one linear pass per shard, no sort.

Every run is sorted by feature and the runs follow each other in location, so an entry's place in the shard is the
feature's offset plus what earlier runs hold of that feature plus its rank in its own run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from safetensors import safe_open

from sae_auto_interp.cache.layout import STATISTICS, read_slice, shard_name, write_arrays
from sae_auto_interp.types import Array, ShardInfo


@dataclass(frozen=True, slots=True)
class _RunSlice:
    counts: Int64[Array, " features"]
    locations: Array
    activations: Array


def merge_runs(runs: Sequence[Path], directory: Path, ranges: Sequence[tuple[int, int]]) -> tuple[ShardInfo, ...]:
    """Write each shard and the per-feature statistics into `directory`; describes the shards."""
    directory.mkdir(parents=True, exist_ok=True)
    shards: list[ShardInfo] = []
    statistics: list[dict[str, Array]] = []
    for first, last in ranges:
        shard = _merge_shard([_read_slice(run, first, last) for run in runs])
        path = directory / shard_name(first, last)
        write_arrays(path, shard)
        shards.append(ShardInfo(path.name, first, last, int(shard["offsets"][-1]), sha256_of(path)))
        statistics.append(_statistics(shard))
    write_arrays(directory / STATISTICS, {name: np.concatenate([s[name] for s in statistics]) for name in statistics[0]})
    return tuple(shards)


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def _read_slice(run: Path, first: int, last: int) -> _RunSlice:
    with safe_open(run, framework="numpy") as file:
        offsets = file.get_slice("offsets")[first : last + 2]
        begin, end = int(offsets[0]), int(offsets[-1])
        return _RunSlice(
            np.diff(offsets), read_slice(file, "locations", begin, end), read_slice(file, "activations", begin, end)
        )


def _merge_shard(slices: Sequence[_RunSlice]) -> dict[str, Array]:
    counts = sum((s.counts for s in slices[1:]), slices[0].counts)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    locations = np.empty(offsets[-1], dtype=slices[0].locations.dtype)
    activations = np.empty(offsets[-1], dtype=slices[0].activations.dtype)
    next_place = offsets[:-1].copy()
    for piece in slices:
        run_start = np.cumsum(piece.counts) - piece.counts
        places = np.arange(len(piece.locations)) + np.repeat(next_place - run_start, piece.counts)
        locations[places] = piece.locations
        activations[places] = piece.activations
        next_place += piece.counts
    return {"activations": activations, "locations": locations, "offsets": offsets}


def _statistics(shard: dict[str, Array]) -> dict[str, Array]:
    """Count, maximum, sum and sum of squares of each feature's activations, as stored."""
    offsets = shard["offsets"]
    counts = np.diff(offsets)
    owner = np.repeat(np.arange(len(counts)), counts)
    values = shard["activations"].astype(np.float64)
    maximum = np.zeros(len(counts))
    np.maximum.at(maximum, owner, values)
    return {
        "n_activations": counts.astype(np.int64),
        "max": maximum,
        "sum": np.bincount(owner, values, minlength=len(counts)),
        "sum_of_squares": np.bincount(owner, values * values, minlength=len(counts)),
    }
