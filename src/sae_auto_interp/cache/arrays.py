"""Safetensors files read by slice, from an own memory map; every length, type and offset of the header is checked.

The library's own reader knows no bfloat16 without torch, and takes longer to find a slice than to read it.

Safetensors files written piece by piece, so that they may be larger than memory.

`ArrayWriter` writes the very bytes that `safetensors.numpy.save_file` would; that one needs every array in memory.
"""

import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from sae_auto_interp.cache.files import DurableFile
from sae_auto_interp.cache.value_types import HELD_AS
from sae_auto_interp.errors import CacheError
from sae_auto_interp.types import Array

MAX_HEADER_BYTES = 100_000_000
"""As in the safetensors library."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """Where one array lies in the file."""

    code: str
    shape: tuple[int, ...]
    begin: int

    @property
    def dtype(self) -> np.dtype[Any]:
        return HELD_AS[self.code]

    @property
    def n_bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


class ArrayFile:
    """A safetensors file. Opening it reads the header; arrays are read, or mapped, by name.

    Raises `CacheError` when the file is missing, truncated, no safetensors file, or has no array of a name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as stream:
                head = stream.read(8)
                n_header = int.from_bytes(head, "little")
                if len(head) < 8 or n_header > MAX_HEADER_BYTES:
                    raise self.unreadable("it is no safetensors file")
                header = stream.read(n_header)
                n_bytes = stream.seek(0, 2)
        except OSError as error:
            raise self.unreadable(str(error)) from error
        if len(header) < n_header:
            raise self.unreadable("it is truncated, or no safetensors file")
        self._arrays = self._checked(header, n_bytes)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._arrays)

    def code(self, name: str) -> str:
        """The safetensors type of an array, e.g. "BF16"."""
        return self._of(name).code

    def shape(self, name: str) -> tuple[int, ...]:
        return self._of(name).shape

    def read(self, name: str, begin: int = 0, end: int | None = None) -> Array:
        """Elements `begin` to `end` (exclusive, flat) of an array, all of it by default, in memory of their own.

        The file is opened for this one reading: any number of files may be read in turn, and none of their pages stay
        mapped.
        """
        place = self._of(name)
        end = prod(place.shape) if end is None else end
        self._check_range(name, begin, end)
        offset = place.begin + begin * place.dtype.itemsize
        try:
            array = np.fromfile(self.path, place.dtype, count=end - begin, offset=offset)
        except OSError as error:
            raise self.unreadable(str(error)) from error
        if len(array) < end - begin:
            raise self.unreadable("it was truncated while in use")
        return array

    def mapped(self, name: str) -> Array:
        """An array in the memory map: nothing is read before it is looked at. Read-only."""
        place = self._of(name)
        n_elements = prod(place.shape)
        if n_elements == 0:
            return np.empty(place.shape, dtype=place.dtype)
        return np.frombuffer(self._map, place.dtype, n_elements, place.begin).reshape(place.shape)

    def require(self, arrays: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
        """Raises `CacheError` unless each array is there with the given safetensors type and shape."""
        for name, (code, shape) in arrays.items():
            found = self._of(name)
            if (found.code, found.shape) != (code, shape):
                wanted, is_now = f"{code}{list(shape)}", f"{found.code}{list(found.shape)}"
                raise self.unreadable(f"{name!r} is {is_now} where the cache has {wanted}: it is damaged or foreign")

    def unreadable(self, reason: str) -> CacheError:
        """The error that names this file."""
        return CacheError(f"{self.path} cannot be read ({reason}); delete {self.path.parent} and cache again")

    @cached_property
    def _map(self) -> mmap.mmap:
        try:
            with self.path.open("rb") as stream:
                mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise self.unreadable(str(error)) from error
        if len(mapped) != max((place.begin + place.n_bytes for place in self._arrays.values()), default=len(mapped)):
            raise self.unreadable("its length changed while in use")
        return mapped

    def _of(self, name: str) -> _Stored:
        if name not in self._arrays:
            raise self.unreadable(f"it has no array {name!r}")
        return self._arrays[name]

    def _check_range(self, name: str, begin: int, end: int) -> None:
        n_elements = prod(self._of(name).shape)
        if not 0 <= begin <= end <= n_elements:
            raise self.unreadable(f"elements {begin} to {end} of {name!r} are asked for, which has {n_elements}")

    def _checked(self, header: bytes, n_bytes: int) -> dict[str, _Stored]:
        """The arrays of a header; they must fill the rest of the file without a gap or an overlap."""
        start = 8 + len(header)
        arrays: dict[str, _Stored] = {}
        end = start
        try:
            fields: dict[str, Any] = json.loads(header)
            fields.pop("__metadata__", None)
            for name, field in sorted(fields.items(), key=lambda item: item[1]["data_offsets"]):
                place = _Stored(str(field["dtype"]), tuple(map(int, field["shape"])), end)
                begin_in_data, end_in_data = field["data_offsets"]
                if (start + begin_in_data, start + end_in_data) != (end, end + place.n_bytes):
                    raise self.unreadable(f"the place of {name!r} does not fit its type and shape")
                if min(place.shape, default=0) < 0:
                    raise self.unreadable(f"{name!r} has shape {list(place.shape)}")
                arrays[name] = place
                end += place.n_bytes
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self.unreadable(f"its header is damaged, or it is no safetensors file: {error}") from error
        if end != n_bytes:
            raise self.unreadable(f"it has {n_bytes} bytes where its header says {end}")
        return arrays


class ArrayWriter:
    """Arrays each given in pieces; `arrays` gives {name: (safetensors type, shape)}.

    A context manager. The file gets its name when the block ends without an error, with every byte on disk.
    Raises `CacheError` when the disk is full or may not be written to; nothing half-written is left.
    """

    def __init__(self, path: Path, arrays: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
        self._path = path
        self._types = {name: HELD_AS[code] for name, (code, _) in arrays.items()}
        widest_first = sorted(arrays, key=lambda name: (-self._types[name].itemsize, name))
        header: dict[str, Any] = {}
        end = 0
        for name in widest_first:
            code, shape = arrays[name]
            begin, end = end, end + prod(shape) * self._types[name].itemsize
            header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [begin, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        start = 8 + len(text)
        self._next = {name: start + header[name]["data_offsets"][0] for name in header}
        self._ends = {name: start + header[name]["data_offsets"][1] for name in header}
        self._head = len(text).to_bytes(8, "little") + text
        self._file = DurableFile(path)

    def append(self, name: str, piece: Array) -> None:
        """Add the next elements of one array, of whatever shape; types are those of `value_types.HELD_AS`."""
        assert piece.dtype == self._types[name], f"{name} is {self._types[name]}, got {piece.dtype}"
        self._file.write(np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data, self._next[name])
        self._next[name] += piece.nbytes

    def __enter__(self) -> "ArrayWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._file.__exit__(kind, error, traceback)
            return
        with self._file:
            assert self._next == self._ends, f"{self._path} is not complete: at {self._next}, ends {self._ends}"
            self._file.write(self._head, at=0)
