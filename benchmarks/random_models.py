"""Models and autoencoders with random weights, made where they are used: too large to be worth a file."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A model's sizes, and the block, counted from 0, whose output the autoencoder reads."""

    family: str
    d_model: int
    n_layers: int
    n_heads: int
    d_mlp: int
    vocab: int
    layer: int
    dtype: str


SHAPES = {
    "gpt2-small": Shape(
        family="gpt2", d_model=768, n_layers=12, n_heads=12, d_mlp=3072, vocab=50257, layer=6, dtype="float32"
    ),
    "2b": Shape(
        family="llama", d_model=2304, n_layers=26, n_heads=9, d_mlp=9216, vocab=32000, layer=12, dtype="bfloat16"
    ),
    "tiny": Shape(family="gpt2", d_model=64, n_layers=3, n_heads=4, d_mlp=256, vocab=500, layer=1, dtype="float32"),
}


def random_model(shape: Shape, ctx_len: int, device: str) -> Any:
    """A causal language model; the same weights on the same kind of device."""
    torch.manual_seed(0)
    with torch.device(device):
        model = _gpt2(shape, ctx_len) if shape.family == "gpt2" else _llama(shape, ctx_len)
    return model.to(getattr(torch, shape.dtype)).eval()


def block_path(shape: Shape) -> str:
    """Full path of the block whose output is encoded."""
    return f"transformer.h.{shape.layer}" if shape.family == "gpt2" else f"model.layers.{shape.layer}"


def random_coder(shape: Shape, width: int, k: int, device: str, threshold: float | None = None) -> SparseCoder:
    """An autoencoder of unit-norm random directions: JumpReLU with a threshold, TopK without."""
    generator = torch.Generator(device).manual_seed(1)
    directions = torch.randn(width, shape.d_model, generator=generator, device=device)
    directions /= directions.norm(dim=1, keepdim=True)
    zeros = torch.zeros(width, device=device), torch.zeros(shape.d_model, device=device)
    thresholds = None if threshold is None else torch.full((width,), threshold, device=device)
    weights = CoderWeights(w_enc=directions, b_enc=zeros[0], w_dec=directions, b_dec=zeros[1], threshold=thresholds)
    activation = CoderSettings(activation="topk", k=k) if threshold is None else CoderSettings(activation="jumprelu")
    return SparseCoder(weights, activation)


def threshold_for(x: Float[Tensor, "n d"], width: int, k: int) -> float:
    """What about `k` of `width` products of `x` with random directions lie above."""
    typical = x.norm(dim=1).median() / x.shape[1] ** 0.5
    return float(typical * torch.special.ndtri(torch.tensor(1 - k / width, dtype=torch.float64)))


def random_tokens(shape: Shape, n_rows: int, ctx_len: int) -> Int64[Array, "n_rows ctx_len"]:
    return np.random.default_rng(2).integers(0, shape.vocab, size=(n_rows, ctx_len))


def _gpt2(shape: Shape, ctx_len: int) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=shape.vocab, n_positions=ctx_len, n_embd=shape.d_model, n_layer=shape.n_layers,
        n_head=shape.n_heads, n_inner=shape.d_mlp, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def _llama(shape: Shape, ctx_len: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=shape.vocab, max_position_embeddings=ctx_len, hidden_size=shape.d_model,
        num_hidden_layers=shape.n_layers, num_attention_heads=shape.n_heads, intermediate_size=shape.d_mlp,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config)
