"""Neighbours of all features by the peer's NeighbourCalculator, which knows no other way.

It moves its matrices to a GPU without asking whether there is one; where there is none they stay where they are.
"""

from pathlib import Path
from typing import Any

import torch
from delphi.latents.neighbours import NeighbourCalculator  # pyright: ignore[reportMissingImports]
from sparsify import SparseCoder  # pyright: ignore[reportMissingImports]

from benchmarks.child import answer
from benchmarks.measured import measured
from benchmarks.workload import CODERS, PEER_STORE, STORE_MODULE

METHODS = {"decoder": "decoder_similarity", "jaccard": "co-occurrence"}


def measure(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Seconds and memory of the search; what it finds is not written."""
    if not torch.cuda.is_available():
        torch.Tensor.cuda = _stay  # pyright: ignore[reportAttributeAccessIssue]
    coder = None
    if settings["kind"] == "decoder":
        coder = SparseCoder.load_from_disk(folder / CODERS / STORE_MODULE).requires_grad_(False)
    found = NeighbourCalculator(
        cache_dir=folder / PEER_STORE / STORE_MODULE, autoencoder=coder, number_of_neighbours=settings["n"]
    )
    with measured() as taken:
        found.populate_neighbour_cache(METHODS[settings["kind"]])
    return taken.as_result() | {"n_features_done": len(found.neighbour_cache)}


def _stay(tensor: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return tensor


if __name__ == "__main__":
    answer(measure)
