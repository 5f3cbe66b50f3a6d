"""Forward to the block and the encoder's product with a random model on a device. Nothing is kept."""

from pathlib import Path
from typing import Any

import torch

from benchmarks.bare.caching import flat, run
from benchmarks.bare.forward import output_at
from benchmarks.bare.product import fastest
from benchmarks.child import answer
from benchmarks.device_memory import measured_on
from benchmarks.random_models import SHAPES, block_path, random_coder, random_model, random_tokens


def measure(settings: dict[str, Any], folder: Path) -> dict[str, Any]:  # noqa: ARG001 - it writes nothing
    """Tokens per second, after a forward pass and a product to find the fastest way of multiplying."""
    shape, device = SHAPES[settings["model"]], settings["device"]
    model = random_model(shape, settings["ctx_len"], device)
    module = model.get_submodule(block_path(shape))
    w_enc = random_coder(shape, settings["width"], settings["k"], device).w_enc
    tokens = random_tokens(shape, settings["n_tokens"] // settings["ctx_len"], settings["ctx_len"])
    batches = torch.from_numpy(tokens).split(settings["batch_rows"])
    with torch.inference_mode():
        x = flat(output_at(model, module, batches[0].to(device)))
        name, product = fastest(x, w_enc)
        with measured_on(device) as figures:
            run(model, module, [batch.to(device) for batch in batches], lambda x: product(x, w_enc))
    return figures | {"tokens_per_second": round(tokens.size / figures["seconds"], 1), "product": name}


if __name__ == "__main__":
    answer(measure)
