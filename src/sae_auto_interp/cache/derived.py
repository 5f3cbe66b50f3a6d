"""Files made from a cache: arrays with a digest that is theirs and that of what they were made from.

A file of another cache, of other settings, or with a flipped bit is not read: it is made again.
"""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sae_auto_interp.cache.arrays import ArrayFile
from sae_auto_interp.cache.layout import write_arrays
from sae_auto_interp.errors import CacheError
from sae_auto_interp.types import Array

DIGEST = "sha256"
"""The array that holds the digest."""
_logger = logging.getLogger(__name__)


def write_derived(path: Path, arrays: Mapping[str, Array], source: str) -> None:
    """Write a file that `read_derived` takes back for the same `source`: whatever decides the arrays, as a text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, {**arrays, DIGEST: _digest(arrays, source)})


def read_derived(path: Path, source: str) -> dict[str, Array] | None:
    """The arrays of a file; None where there is none, or it is damaged or not of this `source`, which is logged."""
    if not path.is_file():
        return None
    try:
        file = ArrayFile(path)
        arrays = {name: file.read(name).reshape(file.shape(name)) for name in sorted(file.names)}
        found = arrays.pop(DIGEST, None)
        if found is not None and np.array_equal(found, _digest(arrays, source)):
            return arrays
        reason = "it has no checksum" if found is None else "it is damaged, or of another cache or other settings"
    except CacheError as error:
        reason = str(error)
    _logger.warning("%s is made again: %s", path, reason)
    return None


def _digest(arrays: Mapping[str, Array], source: str) -> Array:
    digest = hashlib.sha256(source.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"\0{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return np.frombuffer(digest.digest(), dtype=np.uint8)
