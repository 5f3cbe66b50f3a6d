"""Safetensors files written piece by piece, so that they may be larger than memory.

`ArrayWriter` writes the very bytes that `safetensors.numpy.save_file` would; that one needs every array in memory.
"""

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from sae_auto_interp.cache.files import DurableFile
from sae_auto_interp.cache.value_types import HELD_AS
from sae_auto_interp.types import Array


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
