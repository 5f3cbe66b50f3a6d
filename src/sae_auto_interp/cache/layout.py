"""Names, ranges and types of the files of a cache.

The positions of one module that were masked for their norm: one file beside its shards, `locations` [n] in order.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from sae_auto_interp.cache.arrays import ArrayFile, ArrayWriter
from sae_auto_interp.cache.files import sha256_of, sync_directory, write_text, writing
from sae_auto_interp.cache.value_types import CODE_OF
from sae_auto_interp.errors import InputError
from sae_auto_interp.types import Array

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "MASKED",
    "STATISTICS",
    "clear_cache",
    "location_dtype",
    "shard_name",
    "shard_ranges",
    "write_arrays",
    "write_text",
]


FORMAT_VERSION = 2


MANIFEST = "manifest.json"


STATISTICS = "statistics.safetensors"


MASKED = "masked.safetensors"


TOKENS = "tokens.safetensors"


DATA = "data.json"
"""Beside the tokens of a run: what they were made from, and their digest."""


VOCABULARY = "vocabulary.safetensors"


SHARD_PATTERN = "[0-9]*_[0-9]*.safetensors"


def shard_ranges(width: int, n_splits: int) -> list[tuple[int, int]]:
    """First and last feature (inclusive) of each shard; the last shard takes the remainder.

    Raises `InputError` when there are more shards than features.

    >>> shard_ranges(10, 3)
    [(0, 2), (3, 5), (6, 9)]
    """
    if not 1 <= n_splits <= width:
        raise InputError(f"n_splits={n_splits} does not fit an autoencoder of width {width}; give 1 to {width}")
    size = width // n_splits
    firsts = [i * size for i in range(n_splits)]
    lasts = [first - 1 for first in firsts[1:]] + [width - 1]
    return list(zip(firsts, lasts, strict=True))


def shard_name(first: int, last: int) -> str:
    """The file of features `first` to `last`, both inclusive."""
    return f"{first}_{last}.safetensors"


def location_dtype(n_positions: int) -> np.dtype[np.unsignedinteger]:
    """The narrowest unsigned type that holds every flat token index below `n_positions`."""
    for dtype in (np.uint16, np.uint32):
        if n_positions - 1 <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.uint64)


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write a safetensors file so that the name appears only when every byte is on disk.

    Raises `CacheError` when the disk is full or may not be written to; nothing half-written is left.
    """
    with ArrayWriter(path, {name: (CODE_OF[array.dtype], array.shape) for name, array in arrays.items()}) as writer:
        for name, array in arrays.items():
            writer.append(name, array)


def clear_cache(directory: Path) -> None:
    """Take away what an older or unfinished cache left in a module's directory; its manifest goes first, for good.

    Raises `CacheError` when that is not allowed.
    """
    with writing(directory / MANIFEST):
        if (directory / MANIFEST).is_file():
            (directory / MANIFEST).unlink()
            sync_directory(directory)
        for pattern in (SHARD_PATTERN, STATISTICS, MASKED):
            for path in [*directory.glob(pattern), *directory.glob(f".{pattern}.partial")]:
                path.unlink()


def write_masked(directory: Path, locations: Int64[Array, " n"], n_positions: int) -> str:
    """Write the file; returns its checksum."""
    assert (np.diff(locations) > 0).all(), "masked positions come in order, each once"
    write_arrays(directory / MASKED, {"locations": locations.astype(location_dtype(n_positions))})
    return sha256_of(directory / MASKED)


def read_masked(directory: Path, n: int, n_positions: int) -> Int64[Array, " n"]:
    """The flat token indices; raises `CacheError` for a damaged or foreign file."""
    file = ArrayFile(directory / MASKED)
    file.require({"locations": (CODE_OF[location_dtype(n_positions)], (n,))})
    locations = file.read("locations").astype(np.int64)
    if n and (locations[-1] >= n_positions or (np.diff(locations) <= 0).any()):
        raise file.unreadable("its locations are out of order or beyond the rows")
    return locations
