"""The tensors of a SAELens `sae_weights.safetensors` in canonical form.

SAELens writes row vectors: `W_enc` is [d_in, width], `W_dec` [width, d_out]. Scalings that it keeps apart are folded in
where that changes nothing but rounding: a factor of all activations, and a fine-tuned factor of each code, which it
applies on decoding alone. Pre-activations times the norm of their decoder rows (`rescale_acts_by_decoder_norm`) stay
apart, so that equal ones stay equal.

The bias of a layer's attention values, as it arises in front of the output projection.

TransformerLens folds it into the bias of that projection (each head's attention sums to one, so it comes out as a
constant), and what it calls `hook_z` then lacks it. A coder trained there reads z - b_V.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae_auto_interp.autoencoders.families.saelens_config import SaelensConfig
from sae_auto_interp.autoencoders.files import matrix_of, refuse_unread, tensor_of
from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.models.placement import stored_value, torch_model
from sae_auto_interp.models.sites.site import Site

_FACTORS = ("scaling_factor", "finetuning_scaling_factor")
"""They scale codes for decoding."""


def canonical_weights(state: Mapping[str, Any], config: SaelensConfig, file: Path) -> CoderWeights:
    """Raises `WeightsError` for missing tensors, and for those that the architecture does not have."""
    weights = _gated(state, file) if config.activation == "gated" else _plain(state, file)
    if config.activation == "jumprelu":
        weights = replace(weights, threshold=tensor_of(state, "threshold", file))
    if config.has_skip:
        weights = replace(weights, w_skip=matrix_of(state, "W_skip", file))
    if config.rescales_by_decoder_norm:
        weights = _rescaled(weights)
    refuse_unread(state, _tensors_of(config), file)
    weights = _finetuned(weights, state, config, file)
    return weights if config.norm_scaling_factor is None else _scaled(weights, config.norm_scaling_factor)


def _tensors_of(config: SaelensConfig) -> set[str]:
    own = {"b_gate", "r_mag", "b_mag"} if config.activation == "gated" else {"b_enc"}
    own |= {"threshold"} if config.activation == "jumprelu" else set()
    own |= {"W_skip"} if config.has_skip else set()
    return {"W_enc", "W_dec", "b_dec", *own, *_FACTORS}


def _plain(state: Mapping[str, Any], file: Path) -> CoderWeights:
    return CoderWeights(
        w_enc=matrix_of(state, "W_enc", file).T,
        b_enc=tensor_of(state, "b_enc", file),
        w_dec=matrix_of(state, "W_dec", file),
        b_dec=tensor_of(state, "b_dec", file),
    )


def _gated(state: Mapping[str, Any], file: Path) -> CoderWeights:
    """Fires where u + b_gate > 0, with ReLU(exp(r_mag) · u + b_mag), u being the input times W_enc."""
    b_gate = tensor_of(state, "b_gate", file)
    return CoderWeights(
        w_enc=matrix_of(state, "W_enc", file).T,
        b_enc=torch.zeros_like(b_gate),
        w_dec=matrix_of(state, "W_dec", file),
        b_dec=tensor_of(state, "b_dec", file),
        threshold=-b_gate,
        gain=tensor_of(state, "r_mag", file).exp(),
        offset=tensor_of(state, "b_mag", file),
    )


def _rescaled(weights: CoderWeights) -> CoderWeights:
    """Codes are scaled by the norms of their decoder rows, and divided by them on decoding."""
    norms = weights.w_dec.norm(dim=-1)
    w_dec = weights.w_dec / norms.where(norms > 0, torch.ones((), dtype=norms.dtype))[:, None]
    return replace(weights, scale=norms, w_dec=w_dec)


def _finetuned(weights: CoderWeights, state: Mapping[str, Any], config: SaelensConfig, file: Path) -> CoderWeights:
    """Early versions saved a factor of each code for decoding: of ones unless it was fine-tuned."""
    name = next((name for name in _FACTORS if name in state), None)
    factor = None if name is None else tensor_of(state, name, file)
    if factor is None or bool((factor == 1).all()):
        return weights
    if not config.is_finetuned:
        raise WeightsError(f"{file}: holds a 'scaling_factor', but cfg.json does not say finetuning_scaling_factor")
    if factor.numel() not in (1, len(weights.w_dec)):
        raise WeightsError(f"{file}: {name!r} has shape {tuple(factor.shape)}, but W_dec {tuple(weights.w_dec.shape)}")
    return replace(weights, w_dec=weights.w_dec * factor.reshape(-1, 1))


def _scaled(weights: CoderWeights, factor: float) -> CoderWeights:
    """For activations as they are, of a coder that was trained on `factor` times them."""
    return replace(weights, w_enc=weights.w_enc * factor, w_dec=weights.w_dec / factor, b_dec=weights.b_dec / factor)


def without_value_bias(weights: CoderWeights, settings: CoderSettings, model: Any, site: Site) -> CoderWeights:
    """A coder of z - b_V as one of z: `site` is the input of the output projection.

    b_dec stands on both sides of a coder that subtracts it, so there the encoder's own bias stays as it is. Raises
    `WeightsError` for coders that normalise: what is taken off in front of a normalisation is no bias behind it.
    """
    if settings.normalisation != "none":
        raise WeightsError(
            f"{settings.source}: reads activations without the value bias and normalises them ("
            f"{settings.normalisation}), which is not read; processed=False takes them with the bias"
        )
    bias = value_bias(model, site).to(weights.b_dec.dtype)
    if bias.shape != weights.b_dec.shape:
        return weights  # the shapes are `attach`'s to complain about
    b_enc = weights.b_enc if settings.subtract_b_dec else weights.b_enc - weights.w_enc @ bias
    return replace(weights, b_enc=b_enc, b_dec=weights.b_dec + bias)


def value_bias(model: Any, site: Site) -> Float[Tensor, " d"]:
    """b_V of the attention whose output projection's input is `site`, heads one after the other; zeros without one."""
    module = torch_model(model)
    path = site.module_path.rpartition(".")[0]
    attention = module.get_submodule(path)
    width = int(getattr(module.get_submodule(site.module_path), "in_features", 0)) or _n_inputs(module, site)
    for name, part in attention.named_children():
        if name not in ("c_attn", "query_key_value", "v_proj"):
            continue
        bias = getattr(part, "bias", None)
        if bias is None:
            return torch.zeros(width)
        value = stored_value(module, f"{path}.{name}.bias", bias.detach()).float().cpu()
        return _values_part(name, value, attention, width)
    raise InputError(f"{path}: where the values' bias of this attention is kept is not known; c_attn, v_proj are read")


def _values_part(name: str, bias: Tensor, attention: nn.Module, width: int) -> Tensor:
    """GPT-2 joins queries, keys and values; GPT-NeoX does for each head; others share values among query heads."""
    if name == "c_attn":
        return bias[-width:]
    head = int(getattr(attention, "head_dim", 0) or getattr(attention, "head_size", 0))
    if name == "query_key_value":
        return bias.reshape(-1, 3, head)[:, 2].reshape(-1)
    return bias.reshape(-1, head).repeat_interleave(width // len(bias), dim=0).reshape(-1)


def _n_inputs(module: nn.Module, site: Site) -> int:
    """Return the inputs of a linear layer; the weight of transformers' Conv1D is [inputs, outputs]."""
    return module.get_submodule(site.module_path).get_parameter("weight").shape[0]
