"""Names, ranges and types of the files of a cache, and how a file comes into being all at once."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from sae_auto_interp.errors import CacheError, InputError
from sae_auto_interp.types import Array

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
STATISTICS = "statistics.safetensors"
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
    temporary = temporary_name(path)
    try:
        save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, temporary)
    except (SafetensorError, OSError) as error:
        temporary.unlink(missing_ok=True)
        raise CacheError(
            f"{path} cannot be written ({error}); what is finished is kept: make room, then run the same command again"
        ) from error
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    put_in_place(temporary, path)


def write_text(path: Path, text: str) -> None:
    """As `write_arrays`, for text."""
    temporary = temporary_name(path)
    with temporary.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    put_in_place(temporary, path)


def temporary_name(path: Path) -> Path:
    """Where a file is written before it gets its name; a killed run leaves it, the next one writes over it."""
    return path.with_name(f".{path.name}.partial")


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a file whose content is on disk, and have the new name on disk too before returning."""
    temporary.replace(path)
    if os.name == "nt":  # there a directory cannot be opened
        return
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def clear_cache(directory: Path) -> None:
    """Take away what an older or unfinished cache left in a module's directory; its manifest goes first."""
    (directory / MANIFEST).unlink(missing_ok=True)
    for pattern in (SHARD_PATTERN, f".{SHARD_PATTERN}.partial"):
        for path in directory.glob(pattern):
            path.unlink()
