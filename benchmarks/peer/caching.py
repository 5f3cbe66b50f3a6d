"""LatentCache.run and save_splits over a workload, as the peer's own command does it."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from delphi.latents import LatentCache  # pyright: ignore[reportMissingImports]
from delphi.sparse_coders.load_sparsify import (  # pyright: ignore[reportMissingImports]
    load_sparsify_sparse_coders,
    sae_dense_latents,
)
from transformers import AutoModel

from benchmarks.child import answer
from benchmarks.measured import bytes_below, measured
from benchmarks.workload import CODERS, MODEL, TOKENS, block_path, scratch_folder


def measure(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Tokens per second from the first token to the last file on disk; model and autoencoder are loaded before."""
    path = block_path(settings)
    model = AutoModel.from_pretrained(folder / MODEL).eval()
    coder = load_sparsify_sparse_coders(str(folder / CODERS), [path], "cpu")[path].requires_grad_(False)
    for value in (*model.state_dict().values(), *coder.state_dict().values()):
        value.sum()
    tokens = torch.from_numpy(np.load(folder / TOKENS)).long()
    destination = scratch_folder(folder, "peer")
    shutil.rmtree(destination, ignore_errors=True)
    destination.mkdir()
    with measured() as taken:
        cache = LatentCache(model, {path: partial(sae_dense_latents, sae=coder)}, batch_size=settings["batch_rows"])
        cache.run(tokens.numel(), tokens)
        cache.save_splits(n_splits=settings["n_splits"], save_dir=destination)
    n_activations = sum(len(values) for values in cache.cache.latent_activations.values())
    cached_tokens = sum(rows.numel() for rows in cache.cache.tokens.values())
    n_bytes = bytes_below(destination)
    shutil.rmtree(destination)
    return taken.as_result() | {
        "cached_tokens": cached_tokens,
        "tokens_per_second": round(cached_tokens / taken.seconds, 1),
        "n_activations": n_activations,
        "bytes_per_activation": round(n_bytes / max(1, n_activations), 3),
    }


if __name__ == "__main__":
    answer(measure)
