"""FeatureCache.run and save_splits with a random model on a device."""

import shutil
from pathlib import Path
from typing import Any

from nnsight import NNsight

from benchmarks.child import answer
from benchmarks.device_memory import measured_on
from benchmarks.random_models import SHAPES, block_path, random_model, random_tokens, random_topk
from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.features import FeatureCache


def measure(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Tokens per second from the first token to the last file on disk, after a run over one batch."""
    shape, device = SHAPES[settings["model"]], settings["device"]
    model = NNsight(random_model(shape, settings["ctx_len"], device))
    coder = random_topk(shape, settings["width"], settings["k"], device)
    attached = attach(model, {block_path(shape): coder})
    tokens = random_tokens(shape, settings["n_tokens"] // settings["ctx_len"], settings["ctx_len"])
    shutil.rmtree(folder, ignore_errors=True)
    FeatureCache(model, attached, settings["batch_rows"]).run(tokens=tokens[: settings["batch_rows"]])
    with measured_on(device) as figures:
        cache = FeatureCache(model, attached, settings["batch_rows"])
        cache.run(tokens=tokens)
        cache.save_splits(n_splits=settings["n_splits"], save_dir=folder / "cache")
    shutil.rmtree(folder)
    return figures | {"tokens_per_second": round(tokens.size / figures["seconds"], 1)}


if __name__ == "__main__":
    answer(measure)
