"""The least that caching could do: forward to the deepest module and the encoder's product. Nothing is kept.

Twice: with the way of multiplying that is the fastest on this machine, and with one product per batch into a buffer
that is used again, which is what a program does that takes no thought for the processor's caches.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from benchmarks.bare.forward import output_at
from benchmarks.bare.product import fastest
from benchmarks.child import answer
from benchmarks.measured import measured
from benchmarks.workload import CODERS, MODEL, TOKENS, block_path
from sae_auto_interp.autoencoders.families import saelens, sparsify


def measure(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Tokens per second and, with one product per batch, seconds; which way is the fastest is found out before."""
    model, module, w_enc = _loaded(settings, folder)
    tokens = torch.from_numpy(np.load(folder / TOKENS)).long()
    batches = tokens.split(settings["batch_rows"])
    with torch.inference_mode():
        name, product = fastest(flat(output_at(model, module, batches[0])), w_enc)
        with measured() as taken:
            forward_seconds = run(model, module, batches, lambda x: product(x, w_enc))
        one_product_seconds = _with_one_product(model, module, batches, w_enc)
    return taken.as_result() | {
        "cached_tokens": tokens.numel(),
        "tokens_per_second": round(tokens.numel() / taken.seconds, 1),
        "forward_seconds": round(forward_seconds, 4),
        "product_seconds": round(taken.seconds - forward_seconds, 4),
        "product": name,
        "one_product_seconds": round(one_product_seconds, 4),
    }


def run(model: nn.Module, module: nn.Module, batches: Sequence[Int64[Tensor, "batch seq"]], encode: Any) -> float:
    """Every batch through the model and the product; returns the seconds spent in the model (of a CPU)."""
    forward_seconds = 0.0
    for batch in batches:
        started = time.perf_counter()
        x = flat(output_at(model, module, batch))
        forward_seconds += time.perf_counter() - started
        encode(x)
    return forward_seconds


def _with_one_product(
    model: nn.Module, module: nn.Module, batches: Sequence[Int64[Tensor, "batch seq"]], w_enc: Float[Tensor, "width d"]
) -> float:
    """Seconds; the buffer's pages are there before."""
    buffer = torch.zeros(batches[0].numel(), len(w_enc))
    started = time.perf_counter()
    run(model, module, batches, lambda x: torch.mm(x, w_enc.T, out=buffer[: len(x)]))
    return time.perf_counter() - started


def flat(x: Float[Tensor, "batch seq d"]) -> Float[Tensor, "n d"]:
    return x.reshape(-1, x.shape[-1]).float()


def _loaded(settings: dict[str, Any], folder: Path) -> tuple[nn.Module, nn.Module, Float[Tensor, "width d"]]:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / MODEL, trust_remote_code=False).eval()
    path = block_path(settings)
    is_topk = settings["activation"] == "topk"
    coder = sparsify.read(folder / CODERS / path) if is_topk else saelens.read(folder / CODERS)
    for value in (*model.state_dict().values(), coder.w_enc):
        value.sum()
    return model, model.base_model.get_submodule(path), coder.w_enc


if __name__ == "__main__":
    answer(measure)
