"""The peer's store, by its own writer, of the entries of one of ours, in the order in which a run finds them."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from delphi.config import CacheConfig  # pyright: ignore[reportMissingImports]
from delphi.latents import LatentCache  # pyright: ignore[reportMissingImports]
from safetensors.numpy import load_file

from benchmarks.child import answer
from benchmarks.workload import NATIVE_STORE, PEER_STORE, STORE_MODULE, TOKENS


def measure(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Needs some 70 bytes of memory per activation: the peer holds all of them until it writes."""
    rows, positions, features, activations = _entries(folder / NATIVE_STORE, settings["ctx_len"])
    cache = LatentCache(model=None, hookpoint_to_sparse_encode={}, batch_size=1)
    cache.width = settings["width"]
    cache.cache.latent_locations[STORE_MODULE] = torch.from_numpy(np.stack([rows, positions, features], axis=1))
    cache.cache.latent_activations[STORE_MODULE] = torch.from_numpy(activations)
    cache.cache.tokens[STORE_MODULE] = torch.from_numpy(np.load(folder / TOKENS)).long()
    partial = folder / f".{PEER_STORE}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    cache.save_splits(n_splits=settings["n_splits"], save_dir=partial)
    cache.save_config(save_dir=partial, cfg=CacheConfig(), model_name="synthetic")
    partial.rename(folder / PEER_STORE)
    return {"n_activations": len(activations)}


def _entries(root: Path, ctx_len: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Row, position, feature and activation of every entry, by location and then by feature."""
    parts = [_shard(path) for path in root.glob("*/[0-9]*_[0-9]*.safetensors")]
    locations, features, activations = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((features, locations))
    rows, positions = np.divmod(locations[order], ctx_len)
    return rows, positions, features[order], activations[order]


def _shard(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    arrays = load_file(path)
    first = int(path.stem.split("_")[0])
    features = first + np.repeat(np.arange(len(arrays["offsets"]) - 1), np.diff(arrays["offsets"]))
    return arrays["locations"].astype(np.int64), features, arrays["activations"].astype(np.float32)


if __name__ == "__main__":
    answer(measure)
