"""OpenAI's `sparse_autoencoder` weights: `{layer}.pt` holding a dict of tensors and the activation's name.

Source: github.com/openai/sparse_autoencoder. `activation` "TopK" normalises its input and keeps k raw
pre-activations, then ReLU; "ReLU" does neither. `pre_bias` is subtracted from the input in both.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.files import integer_of, matrix_of, read_torch_file, required_file, tensor_of
from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.errors import InputError, UnknownNameError, WeightsError

_MODULES = {
    "resid_post_mlp": "h.{layer}",
    "resid_delta_mlp": "h.{layer}.mlp",
    "resid_delta_attn": "h.{layer}.attn",
}


def load_oai_autoencoders(
    model: Any, layers: Sequence[int], weight_dir: str | Path, *, location: str = "resid_post_mlp"
) -> dict[str, Any]:
    """Attach `weight_dir/{layer}.pt` for each layer; returns {module path: submodule}.

    `location` is OpenAI's name for the site: `resid_post_mlp` (the residual stream after the block), `resid_delta_mlp`
    or `resid_delta_attn`. Raises `InputError` for a missing file and `WeightsError` for one that is damaged, holds
    other tensors, or does not fit the model.
    """
    if location not in _MODULES:
        raise UnknownNameError("location", location, _MODULES)
    coders = {_MODULES[location].format(layer=layer): read(Path(weight_dir) / f"{layer}.pt") for layer in layers}
    return attach(model, coders)


def recognise(root: Path) -> str | None:
    """What gives the family away."""
    return "it holds {layer}.pt" if root.is_dir() and saved_layers(root) else None


def coders_in(_model: Any, root: Path, chosen: Sequence[str] | None) -> dict[str, SparseCoder]:
    """Of the residual stream; `chosen` are layer numbers."""
    layers = saved_layers(root) if chosen is None else [_layer(text) for text in chosen]
    return {_MODULES["resid_post_mlp"].format(layer=layer): read(root / f"{layer}.pt") for layer in layers}


def saved_layers(root: Path) -> list[int]:
    """Layers that a directory in OpenAI's layout has weights for."""
    return sorted(int(p.stem) for p in root.glob("*.pt") if p.stem.isdecimal())


def read(path: Path) -> SparseCoder:
    """Read one `{layer}.pt`; executes no pickled code."""
    state: dict[str, Any] = read_torch_file(required_file(path, "OpenAI autoencoder"))
    name = state.get("activation")
    if name not in ("TopK", "ReLU"):
        raise WeightsError(f"{path}: activation is {name!r}; OpenAI's files say 'TopK' or 'ReLU'")
    is_topk = name == "TopK"
    k = _k(state, path) if is_topk else None
    weights = CoderWeights(
        w_enc=matrix_of(state, "encoder.weight", path),
        b_enc=tensor_of(state, "latent_bias", path),
        w_dec=matrix_of(state, "decoder.weight", path).T,
        b_dec=tensor_of(state, "pre_bias", path),
    )
    settings = CoderSettings(
        activation="topk" if is_topk else "relu", k=k, subtract_b_dec=True,
        normalisation="layer_norm" if is_topk else "none", family="openai", source=str(path),
    )  # fmt: skip
    return SparseCoder(weights, settings)


def save(path: Path, weights: CoderWeights, k: int) -> None:
    """Write a TopK coder in OpenAI's layout (v5); `read` gives the same coder back."""
    state: dict[str, Tensor | str | dict[str, Any]] = {
        "pre_bias": weights.b_dec,
        "encoder.weight": weights.w_enc,
        "latent_bias": weights.b_enc,
        "decoder.weight": weights.w_dec.T.contiguous(),
        "activation": "TopK",
        "activation_state_dict": {"k": k, "postact_fn": "ReLU"},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)


def _k(state: dict[str, Any], path: Path) -> int:
    """TopK's k; refuses one that keeps negative values, which a feature's activation cannot be."""
    saved: dict[str, Any] = state.get("activation_state_dict") or {}
    kept = saved.get("postact_fn", "ReLU")
    if kept != "ReLU":
        raise WeightsError(f"{path}: postact_fn={kept!r} is not read yet; OpenAI's TopK files say 'ReLU'")
    return integer_of(saved, "k", path)


def _layer(text: str) -> int:
    if not text.isdecimal():
        raise InputError(f"OpenAI autoencoders are chosen by layer number, not {text!r}")
    return int(text)
