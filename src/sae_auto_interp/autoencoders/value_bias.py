"""The bias of a layer's attention values, as it arises in front of the output projection.

TransformerLens folds it into the bias of that projection (each head's attention sums to one, so it comes out as a
constant), and what it calls `hook_z` then lacks it. A coder trained there reads z - b_V.
"""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.models.placement import stored_value, torch_model
from sae_auto_interp.models.sites.site import Site


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
    """Of transformers' Conv1D, whose weight is [inputs, outputs]."""
    return module.get_submodule(site.module_path).get_parameter("weight").shape[0]
