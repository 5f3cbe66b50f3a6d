"""FeatureCache.run and save_splits with a random model on a device."""

import shutil
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from nnsight import NNsight

from benchmarks.bare.caching import flat
from benchmarks.bare.forward import output_at
from benchmarks.child import answer
from benchmarks.device_memory import measured_on
from benchmarks.random_models import SHAPES, Shape, block_path, random_coder, random_model, random_tokens, threshold_for
from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.sparse_coder import SparseCoder
from sae_auto_interp.features import FeatureCache
from sae_auto_interp.types import Array


def measure(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Tokens per second from the first token to the last file on disk, after a run over one batch."""
    shape, device = SHAPES[settings["model"]], settings["device"]
    plain = random_model(shape, settings["ctx_len"], device)
    tokens = random_tokens(shape, settings["n_tokens"] // settings["ctx_len"], settings["ctx_len"])
    coder = _coder(plain, shape, tokens[: settings["batch_rows"]], settings)
    model = NNsight(plain)
    attached = attach(model, {block_path(shape): coder})
    shutil.rmtree(folder, ignore_errors=True)
    FeatureCache(model, attached, settings["batch_rows"]).run(tokens=tokens[: settings["batch_rows"]])
    with measured_on(device) as figures:
        cache = FeatureCache(model, attached, settings["batch_rows"])
        cache.run(tokens=tokens)
        manifests = cache.save_splits(n_splits=settings["n_splits"], save_dir=folder / "cache")
    shutil.rmtree(folder)
    n_activations = sum(shard.n_activations for manifest in manifests.values() for shard in manifest.shards)
    return figures | {
        "tokens_per_second": round(tokens.size / figures["seconds"], 1),
        "activations_per_token": round(n_activations / tokens.size, 2),
    }


def _coder(model: Any, shape: Shape, tokens: Int64[Array, "batch seq"], settings: dict[str, Any]) -> SparseCoder:
    """As many features fire per token whichever the activation: the threshold is found on the first batch."""
    width, k, device = settings["width"], settings["k"], settings["device"]
    if settings["activation"] == "topk":
        return random_coder(shape, width, k, device)
    ids = torch.from_numpy(tokens).to(device)
    x = flat(output_at(model, model.get_submodule(block_path(shape)), ids))
    return random_coder(shape, width, k, device, threshold_for(x, width, k))


if __name__ == "__main__":
    answer(measure)
