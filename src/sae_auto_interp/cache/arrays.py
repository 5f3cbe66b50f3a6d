"""Safetensors files larger than memory: written piece by piece, read by slice.

`ArrayWriter` writes the very bytes that `safetensors.numpy.save_file` would; that one needs every array in memory.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from sae_auto_interp.cache.layout import put_in_place, temporary_name
from sae_auto_interp.errors import CacheError
from sae_auto_interp.types import Array

_CODES = {"float16": "F16", "float32": "F32", "float64": "F64", "int64": "I64"} | {
    f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)
}


class ArrayWriter:
    """One-dimensional arrays, each given in pieces; `arrays` gives {name: (type, length)}.

    A context manager. The file gets its name when the block ends without an error, with every byte on disk.
    """

    def __init__(self, path: Path, arrays: Mapping[str, tuple[np.dtype[Any], int]]) -> None:
        self._path = path
        self._types = {name: dtype for name, (dtype, _) in arrays.items()}
        widest_first = sorted(arrays, key=lambda name: (-self._types[name].itemsize, name))
        header: dict[str, Any] = {}
        end = 0
        for name in widest_first:
            dtype, length = arrays[name]
            begin, end = end, end + length * dtype.itemsize
            header[name] = {"dtype": _CODES[dtype.name], "shape": [length], "data_offsets": [begin, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        start = 8 + len(text)
        self._next = {name: start + header[name]["data_offsets"][0] for name in header}
        self._ends = {name: start + header[name]["data_offsets"][1] for name in header}
        self._stream = temporary_name(path).open("wb")
        self._stream.write(len(text).to_bytes(8, "little") + text)

    def append(self, name: str, piece: Array) -> None:
        """Add the next elements of one array."""
        assert piece.dtype == self._types[name], f"{name} is {self._types[name]}, got {piece.dtype}"
        self._stream.seek(self._next[name])
        self._stream.write(np.ascontiguousarray(piece).data)
        self._next[name] += piece.nbytes

    def __enter__(self) -> "ArrayWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._stream:
            if kind is not None:
                return
            assert self._next == self._ends, f"{self._path} is not complete: at {self._next}, ends {self._ends}"
            self._stream.flush()
            os.fsync(self._stream.fileno())
        put_in_place(temporary_name(self._path), self._path)


def opened(path: Path) -> Any:
    """A safetensors file, memory-mapped; raises `CacheError` when it is missing, truncated or none."""
    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def whole(file: Any, name: str, path: Path) -> Array:
    """One array of an opened file; raises `CacheError` when the file has none of that name."""
    try:
        array: Array = file.get_tensor(name)
    except SafetensorError as error:
        raise _unreadable(path, error) from error
    return array


def part(file: Any, name: str, begin: int, end: int, path: Path) -> Array:
    """Elements `begin` to `end` (exclusive) of one array; only those are read."""
    try:
        found = file.get_slice(name)
        if begin == end:  # safetensors refuses an empty slice at the end of an array
            return np.empty(0, dtype=_dtype_of(found))
        array: Array = found[begin:end]
    except SafetensorError as error:
        raise _unreadable(path, error) from error
    return array


def _dtype_of(found: Any) -> np.dtype[Any]:
    code: str = found.get_dtype()
    return np.dtype(next(name for name, known in _CODES.items() if known == code))


def _unreadable(path: Path, error: Exception) -> CacheError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return CacheError(f"{path} cannot be read ({reason}); delete {path.parent} and cache again")
