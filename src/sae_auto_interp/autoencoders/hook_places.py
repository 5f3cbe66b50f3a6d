"""Hook names of the families in this folder -> sites, for the few places and architectures that they need.

`resolve_site` is asked first; what is below is only what it does not know yet.
"""

import re
from dataclasses import replace
from typing import Any

from sae_auto_interp.errors import UnknownNameError
from sae_auto_interp.models.module_paths import module_at
from sae_auto_interp.models.placement import torch_model
from sae_auto_interp.models.site import Side, Site, Transform
from sae_auto_interp.models.site_names import resolve_site

_Place = tuple[str, Side, Transform]
_LLAMA: dict[str, _Place] = {
    "hook_resid_pre": ("", "input", "none"),
    "hook_resid_mid": (".post_attention_layernorm", "input", "none"),
    "hook_resid_post": ("", "output", "none"),
    "hook_attn_out": (".self_attn", "output", "none"),
    "attn.hook_out": (".self_attn", "output", "none"),
    "attn.hook_z": (".self_attn.o_proj", "input", "none"),
    "ln2.hook_normalized": (".post_attention_layernorm", "input", "rms_norm"),
    "mlp.hook_in": (".mlp", "input", "none"),
    "mlp.hook_post": (".mlp.down_proj", "input", "none"),
    "mlp.hook_out": (".mlp", "output", "none"),
    "hook_mlp_out": (".mlp", "output", "none"),
}
_GEMMA = _LLAMA | {
    "hook_resid_mid": (".pre_feedforward_layernorm", "input", "none"),
    "hook_attn_out": (".post_attention_layernorm", "output", "none"),
    "ln2.hook_normalized": (".pre_feedforward_layernorm", "input", "rms_norm"),
    "hook_mlp_out": (".post_feedforward_layernorm", "output", "none"),
}
_GPT2: dict[str, _Place] = {
    "hook_resid_pre": ("", "input", "none"),
    "hook_resid_post": ("", "output", "none"),
    "hook_attn_out": (".attn", "output", "none"),
    "attn.hook_out": (".attn", "output", "none"),
    "mlp.hook_in": (".mlp", "input", "none"),
    "mlp.hook_post": (".mlp.c_proj", "input", "none"),
    "mlp.hook_out": (".mlp", "output", "none"),
    "hook_mlp_out": (".mlp", "output", "none"),
}
_TABLES = {
    "gpt2": ("h", "wte", _GPT2),
    **dict.fromkeys(("gemma2", "gemma3", "gemma3_text"), ("layers", "embed_tokens", _GEMMA)),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), ("layers", "embed_tokens", _LLAMA)),
}


def hook_site(model: Any, name: str) -> Site:
    """The site that `name` means in `model`. Raises `UnknownNameError` with the nearest matches."""
    path, _, side = name.rpartition(".")
    if side in ("input", "output") and path:
        return replace(resolve_site(model, path), side="input" if side == "input" else "output")
    try:
        return resolve_site(model, name)
    except UnknownNameError:
        found = _from_table(model, name)
        if found is None:
            raise
        return found


def _from_table(model: Any, name: str) -> Site | None:
    kind = str(getattr(getattr(torch_model(model), "config", None), "model_type", ""))
    blocks, embedding, table = _TABLES.get(kind, ("", "", {}))
    if name == "hook_embed" and embedding:
        return resolve_site(model, embedding)
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
    if match is None or match[2] not in table:
        return None
    path, side, transform = table[match[2]]
    site = replace(resolve_site(model, f"{blocks}.{match[1]}{path}"), side=side, transform=transform)
    if transform == "none":
        return site
    norm: Any = module_at(model, site.module_path)
    return replace(site, epsilon=float(getattr(norm, "variance_epsilon", getattr(norm, "eps", 0.0))))
