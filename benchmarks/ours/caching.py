"""FeatureCache.run and save_splits over a workload."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.child import answer
from benchmarks.measured import bytes_below, measured
from benchmarks.workload import CODERS, MODEL, TOKENS, scratch_folder
from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.families.saelens import load_saelens_autoencoders
from sae_auto_interp.autoencoders.families.sparsify import load_eai_autoencoders
from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.features import CacheOptions, FeatureCache
from sae_auto_interp.models.placement import torch_model
from sae_auto_interp.models.subject import load_subject_model

SILENT_WIDTH = 8
NEVER = -1e9


def measure(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Tokens per second from the first token to the last file on disk; model and autoencoder are loaded before."""
    model, attached = loaded(settings, folder)
    tokens = np.load(folder / TOKENS)
    destination = scratch_folder(folder, "ours")
    shutil.rmtree(destination, ignore_errors=True)
    with measured() as taken:
        options = CacheOptions(work_dir=destination / "work")
        cache = FeatureCache(model, attached, settings["batch_rows"], options=options)
        cache.run(tokens=tokens)
        manifests = cache.save_splits(n_splits=settings["n_splits"], save_dir=destination / "cache")
        cache.discard_work()
    n_activations = sum(shard.n_activations for manifest in manifests.values() for shard in manifest.shards)
    n_bytes = bytes_below(destination)
    shutil.rmtree(destination)
    return taken.as_result() | {
        "cached_tokens": tokens.size,
        "tokens_per_second": round(tokens.size / taken.seconds, 1),
        "n_activations": n_activations,
        "bytes_per_activation": round(n_bytes / max(1, n_activations), 3),
    }


def loaded(settings: dict[str, Any], folder: Path) -> tuple[Any, dict[str, Any]]:
    """The model with its autoencoder attached, every weight read into memory."""
    model = load_subject_model(str(folder / MODEL), "cpu")
    if settings["activation"] == "topk":
        attached = load_eai_autoencoders(model, None, folder / CODERS)
    else:
        attached = load_saelens_autoencoders(model, None, folder / CODERS)
    if settings.get("all_layers"):
        attached |= attach(model, {f"h.{settings['n_layers'] - 1}": _silent_coder(settings["d_model"])})
    for value in torch_model(model).state_dict().values():
        value.sum()
    return model, attached


def _silent_coder(d_model: int) -> SparseCoder:
    """A coder that never fires: at the last block, it has the forward pass run through all layers."""
    weights = CoderWeights(
        w_enc=torch.zeros(SILENT_WIDTH, d_model), b_enc=torch.full((SILENT_WIDTH,), NEVER),
        w_dec=torch.zeros(SILENT_WIDTH, d_model), b_dec=torch.zeros(d_model),
    )  # fmt: skip
    return SparseCoder(weights, CoderSettings(activation="topk", k=1))


if __name__ == "__main__":
    answer(measure)
