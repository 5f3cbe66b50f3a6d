"""Feature-sorted sources -> the finished cache of a module: one linear pass per shard, no sort, some shards at a time.

Every source is sorted by feature, and the sources follow each other in location, so an entry's place in the shard is
the feature's offset plus what earlier sources hold of that feature plus its rank in its own source. A shard is made
a chunk at a time: some whole features, or a part of one that is larger than a chunk. Memory is that of a chunk for each
shard being made and of a few numbers per feature.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from sae_auto_interp.cache.arrays import ArrayWriter
from sae_auto_interp.cache.files import sha256_of, write_text, writing
from sae_auto_interp.cache.layout import MANIFEST, STATISTICS, clear_cache, location_dtype, shard_name, write_masked
from sae_auto_interp.cache.source import EntrySource
from sae_auto_interp.cache.statistics import CHUNK_ENTRIES, Statistics
from sae_auto_interp.cache.threads import N_THREADS
from sae_auto_interp.cache.value_types import CODE_OF, HELD_AS, activation_code, as_float32
from sae_auto_interp.types import Array, CacheManifest, ShardInfo

Chunk = tuple[int, Int64[Array, " features"], Array, Array]
"""First feature; number of entries of each feature from there on; locations; stored activations."""


def merge_into_cache(
    sources: Sequence[EntrySource],
    directory: Path,
    ranges: Sequence[tuple[int, int]],
    description: CacheManifest,
    masked: Int64[Array, " n_masked"] | None = None,
    n_threads: int = N_THREADS,
) -> CacheManifest:
    """Write shards, statistics and at last the manifest into `directory`; what it held of an older cache is replaced.

    The entries of one feature are those of the first source, then those of the second, and so on; each source must
    begin behind the locations of the one before. `description` is the manifest but for the files, which it gains.
    `masked` are the positions masked for their norm, where `description` has a `norm_mask`. `n_threads` shards are made
    at a time.
    Raises `CacheError` when a source is damaged, and when the disk is full.
    """
    clear_cache(directory)
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    shards, parts = zip(*_merge_shards(sources, directory, ranges, description, n_threads), strict=True)
    statistics = Statistics.joined(parts)
    statistics.save(directory / STATISTICS, description.n_positions)
    manifest = replace(description, shards=shards, statistics_sha256=sha256_of(directory / STATISTICS))
    if manifest.norm_mask is not None:
        assert masked is not None, f"{directory}: a norm mask without its positions"
        checksum = write_masked(directory, masked, manifest.n_positions)
        manifest = replace(manifest, norm_mask=replace(manifest.norm_mask, n_positions=len(masked), sha256=checksum))
    write_text(directory / MANIFEST, manifest.to_json())
    return manifest


def _merge_shards(
    sources: Sequence[EntrySource],
    directory: Path,
    ranges: Sequence[tuple[int, int]],
    description: CacheManifest,
    n_threads: int,
) -> list[tuple[ShardInfo, Statistics]]:
    """Every shard and its features' statistics. When one fails, or on ctrl-C, the others end at their next chunk."""
    is_over = threading.Event()

    def merged(range_: tuple[int, int]) -> tuple[ShardInfo, Statistics]:
        return _merge_shard(sources, directory, *range_, description, is_over)

    if n_threads == 1:
        return [merged(range_) for range_ in ranges]
    with ThreadPoolExecutor(n_threads, thread_name_prefix="merge") as threads:
        try:
            merging = [threads.submit(merged, range_) for range_ in ranges]
            for shard in as_completed(merging):
                shard.result()
        except BaseException:
            is_over.set()
            threads.shutdown(cancel_futures=True)
            raise
    return [shard.result() for shard in merging]


def _merge_shard(
    sources: Sequence[EntrySource],
    directory: Path,
    first: int,
    last: int,
    description: CacheManifest,
    is_over: threading.Event,
) -> tuple[ShardInfo, Statistics]:
    path = directory / shard_name(first, last)
    sources = [source.beginning_at(first) for source in sources]
    counts = sum((source.counts(first, last + 1) for source in sources), start=np.zeros(last - first + 1, np.int64))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    n = int(offsets[-1])
    code, location_type = activation_code(description.activation_dtype), location_dtype(description.n_positions)
    arrays = {
        "offsets": ("I64", offsets.shape),
        "locations": (CODE_OF[location_type], (n,)),
        "activations": (code, (n,)),
    }
    statistics = Statistics(last - first + 1, description.ctx_len)
    with ArrayWriter(path, arrays) as shard:
        shard.append("offsets", offsets)
        for begin, counts_, locations, activations in _chunks(sources, first, offsets, location_type, HELD_AS[code]):
            if is_over.is_set():
                raise CancelledError
            shard.append("locations", locations)
            shard.append("activations", activations)
            statistics.add(begin - first, counts_, locations, as_float32(activations, code))
    return ShardInfo(path.name, first, last, n, sha256_of(path)), statistics


def _chunks(
    sources: Sequence[EntrySource],
    first: int,
    offsets: Int64[Array, " features_plus_1"],
    location_type: np.dtype[np.unsignedinteger],
    value_type: np.dtype[np.generic],
) -> Iterator[Chunk]:
    """The merged entries of the features from `first` on, in the canonical chunks of `statistics`."""
    begin, n_features = 0, len(offsets) - 1
    while begin < n_features:
        fits = int(np.searchsorted(offsets, int(offsets[begin]) + CHUNK_ENTRIES, side="right")) - 1
        end = max(fits, begin + 1)
        chunk = _Room(min(CHUNK_ENTRIES, int(offsets[end] - offsets[begin])), location_type, value_type)
        if fits > begin:
            counts = np.diff(offsets[begin : end + 1])
            chunk.interleave(sources, first + begin, counts)
            yield first + begin, counts, chunk.locations, chunk.activations
        else:
            for n in chunk.fill_one_after_the_other(sources, first + begin):
                yield first + begin, np.array([n]), chunk.locations[:n], chunk.activations[:n]
        begin = end


class _Room:
    """Columns of merged entries, filled from the sources."""

    def __init__(self, n: int, location_type: np.dtype[np.unsignedinteger], value_type: np.dtype[np.generic]) -> None:
        self.locations: Array = np.empty(n, location_type)
        self.activations: Array = np.empty(n, value_type)

    def interleave(self, sources: Sequence[EntrySource], first: int, counts: Int64[Array, " features"]) -> None:
        """Whole features from `first` on: the sources' parts of each, one behind the other."""
        next_place = np.cumsum(counts) - counts
        for source in sources:
            in_source = source.counts(first, first + len(counts))
            n = int(in_source.sum())
            places = np.repeat(next_place - (np.cumsum(in_source) - in_source), in_source)
            places += np.arange(n)
            self._put(places, source, n)
            next_place += in_source

    def fill_one_after_the_other(self, sources: Sequence[EntrySource], feature: int) -> Iterator[int]:
        """One feature with more entries than there is room for; yields how many are in, each time that it is full."""
        n_in = 0
        for source in sources:
            left = int(source.counts(feature, feature + 1)[0])
            while left:
                n = min(left, len(self.locations) - n_in)
                self._put(slice(n_in, n_in + n), source, n)
                n_in, left = n_in + n, left - n
                if n_in == len(self.locations):
                    yield n_in
                    n_in = 0
        if n_in:
            yield n_in

    def _put(self, places: Int64[Array, " n"] | slice, source: EntrySource, n: int) -> None:
        locations, activations = source.take(n, self.locations.dtype)
        self.locations[places] = locations
        self.activations[places] = activations
