"""Names, ranges and types of the files of a cache."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from sae_auto_interp.types import Array

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
STATISTICS = "statistics.safetensors"


def shard_ranges(width: int, n_splits: int) -> list[tuple[int, int]]:
    """First and last feature (inclusive) of each shard; the last shard takes the remainder.

    >>> shard_ranges(10, 3)
    [(0, 2), (3, 5), (6, 9)]
    """
    if not 1 <= n_splits <= width:
        raise ValueError(f"n_splits={n_splits} does not fit a width of {width}; give 1 to {width}")
    size = width // n_splits
    firsts = [i * size for i in range(n_splits)]
    lasts = [first - 1 for first in firsts[1:]] + [width - 1]
    return list(zip(firsts, lasts, strict=True))


def shard_name(first: int, last: int) -> str:
    return f"{first}_{last}.safetensors"


def location_dtype(n_positions: int) -> np.dtype[np.unsignedinteger]:
    """The narrowest unsigned type that holds every flat token index below `n_positions`."""
    for dtype in (np.uint16, np.uint32, np.uint64):
        if n_positions - 1 <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    raise ValueError(f"{n_positions} positions do not fit 64 bits")


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write a safetensors file so that the name appears only when every byte is on disk."""
    temporary = path.with_name(f".{path.name}.partial")
    save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, temporary)
    _sync(temporary)
    temporary.replace(path)


def read_slice(file: Any, name: str, begin: int, end: int) -> Array:
    """Entries begin..end of one array of an open safetensors file; it refuses an empty slice at the very end itself."""
    if begin == end:
        return file.get_tensor(name)[:0] if begin == 0 else file.get_slice(name)[begin - 1 : begin][:0]
    return file.get_slice(name)[begin:end]


def write_text(path: Path, text: str) -> None:
    """As `write_arrays`, for text."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    _sync(temporary)
    temporary.replace(path)


def _sync(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
