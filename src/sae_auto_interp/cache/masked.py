"""The positions of one module that were masked for their norm: one file beside its shards, `locations` [n] in order."""

from pathlib import Path

import numpy as np
from jaxtyping import Int64

from sae_auto_interp.cache.arrays import ArrayFile
from sae_auto_interp.cache.files import sha256_of
from sae_auto_interp.cache.layout import MASKED, location_dtype, write_arrays
from sae_auto_interp.cache.value_types import CODE_OF
from sae_auto_interp.types import Array


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
