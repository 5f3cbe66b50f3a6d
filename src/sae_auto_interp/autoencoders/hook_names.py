"""Stand-in until `models.site_names.resolve_site` knows TransformerLens' names: the hooks that this folder's tests use.

To be deleted with the merge: every caller imports `resolve_site` from here, and from there then, with one signature.
"""

import re
from typing import Any

from sae_auto_interp.errors import UnknownNameError
from sae_auto_interp.models import site_names
from sae_auto_interp.models.placement import torch_model
from sae_auto_interp.models.site import Site

_GPT2 = {
    "hook_resid_pre": "h.{}:in", "hook_resid_mid": "h.{}.ln_2:in", "hook_resid_post": "h.{}",
    "hook_mlp_out": "h.{}.mlp", "hook_attn_out": "h.{}.attn", "attn.hook_z": "h.{}.attn.c_proj:in",
    "mlp.hook_post": "h.{}.mlp.c_proj:in", "mlp.hook_in": "h.{}.mlp:in", "hook_mlp_in": "h.{}.mlp:in",
}  # fmt: skip
_NEOX = {
    "hook_resid_pre": "layers.{}:in", "hook_resid_post": "layers.{}", "hook_mlp_out": "layers.{}.mlp",
    "hook_attn_out": "layers.{}.attention", "attn.hook_z": "layers.{}.attention.dense:in",
}  # fmt: skip
_LLAMA = {
    "hook_resid_pre": "layers.{}:in", "hook_resid_mid": "layers.{}.post_attention_layernorm:in",
    "hook_resid_post": "layers.{}", "hook_mlp_out": "layers.{}.mlp", "hook_attn_out": "layers.{}.self_attn",
    "attn.hook_z": "layers.{}.self_attn.o_proj:in",
}  # fmt: skip
_BY_TYPE = {"gpt2": _GPT2, "gpt_neox": _NEOX, **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _LLAMA)}


def resolve_site(model: Any, name: str) -> Site:
    """The site that `name` means in `model`. Raises `UnknownNameError` with the nearest matches."""
    match = re.fullmatch(r"blocks\.(\d+)\.([\w.]+)", name)
    if match is None:
        for ending, side in ((".input", ":in"), (".output", ":out")):
            if name.endswith(ending):
                return site_names.resolve_site(model, name.removesuffix(ending) + side)
        return site_names.resolve_site(model, name)
    model_type = str(getattr(getattr(torch_model(model), "config", None), "model_type", "unknown"))
    if model_type not in _BY_TYPE:
        raise UnknownNameError("model type for TransformerLens hook names", model_type, _BY_TYPE)
    table = _BY_TYPE[model_type]
    if match[2] not in table:
        raise UnknownNameError("hook", name, [f"blocks.{match[1]}.{hook}" for hook in table])
    return site_names.resolve_site(model, table[match[2]].format(match[1]))
