"""Neighbours of the first features, by decoder cosine or by co-occurrence on tokens."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from benchmarks.child import answer
from benchmarks.measured import measured
from benchmarks.workload import CODERS, NATIVE_STORE, STORE_MODULE, block_path
from sae_auto_interp.cache.reader import CacheReader
from sae_auto_interp.features.neighbours.cooccurrence import jaccard_neighbours
from sae_auto_interp.features.neighbours.cosine import cosine_neighbours
from sae_auto_interp.types import Array


def measure(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Seconds and memory of the search; what it finds is not written."""
    n_features = settings["n_features"]
    is_all = n_features == settings["width"]
    features = None if is_all else range(n_features)
    if settings["kind"] == "decoder":
        directions = _decoder(folder / CODERS / block_path(settings))
        with measured() as taken:
            indices, _ = cosine_neighbours(directions, settings["n"], features=features)
    else:
        reader = CacheReader(folder / NATIVE_STORE / STORE_MODULE)
        with measured() as taken:
            indices, _ = jaccard_neighbours(reader, settings["n"], features=features)
    return taken.as_result() | {"n_features_done": len(indices), "n_neighbours": int(np.count_nonzero(indices >= 0))}


def _decoder(directory: Path) -> Array:
    """[width, d], of sparsify's file alone: the search needs neither torch nor the model."""
    with safe_open(directory / "sae.safetensors", framework="numpy") as file:
        return file.get_tensor("W_dec")


if __name__ == "__main__":
    answer(measure)
