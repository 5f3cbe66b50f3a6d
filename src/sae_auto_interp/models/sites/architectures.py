"""Where the places that TransformerLens names are in each architecture of transformers: one table per architecture.

A table is written in hook names, which the whole field shares, and in addresses below one block: `mlp:in` is what the
block's `mlp` reads, `:out` what the block gives, and a transform may follow in brackets. `hook_attn_out` and
`hook_mlp_out` are what is added to the residual stream, `attn.hook_out` and `mlp.hook_out` what the module itself
gives: Gemma and OLMo put a norm between the two. Where an architecture has no such place, the table says why.

Source: the modules of transformers 5 and TransformerLens' names. `tests/models/test_sites_by_architecture.py`
recomputes every place of every table from the model's weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Absent:
    """Why an architecture has no such place."""

    reason: str


@dataclass(frozen=True, slots=True)
class Architecture:
    """The places of one architecture. Module paths are below the module that owns the embedding and the blocks."""

    blocks: str
    """The list of blocks."""
    embedding: str
    hooks: Mapping[str, str | Absent]
    """{hook name of one block: address below the block}."""
    embedding_is_scaled: bool = False
    """By the square root of the width, inside the embedding module."""


_PARALLEL = Absent("attention and MLP read the same residual stream in parallel, so there is nothing between them")
_NORM_AFTER = Absent("its norms come after attention and MLP, so neither reads a normalised residual stream")
_IN_EXPERTS = Absent("its MLP is a mixture of experts, whose neurons are not one tensor")
_UNGATED = Absent("its MLP has no gate")

_LLAMA_HOOKS: dict[str, str | Absent] = {
    "hook_resid_pre": ":in",
    "ln1.hook_normalized": "input_layernorm:in (rms_norm)",
    "attn.hook_z": "self_attn.o_proj:in",
    "attn.hook_out": "self_attn:out",
    "hook_attn_out": "self_attn:out",
    "hook_resid_mid": "post_attention_layernorm:in",
    "ln2.hook_normalized": "post_attention_layernorm:in (rms_norm)",
    "mlp.hook_in": "mlp:in",
    "mlp.hook_pre": "mlp.gate_proj:out",
    "mlp.hook_pre_linear": "mlp.up_proj:out",
    "mlp.hook_post": "mlp.down_proj:in",
    "mlp.hook_out": "mlp:out",
    "hook_mlp_out": "mlp:out",
    "hook_resid_post": ":out",
}
_GPT2_HOOKS: dict[str, str | Absent] = {
    "hook_resid_pre": ":in",
    "ln1.hook_normalized": "ln_1:in (layer_norm)",
    "attn.hook_z": "attn.c_proj:in",
    "attn.hook_out": "attn:out",
    "hook_attn_out": "attn:out",
    "hook_resid_mid": "ln_2:in",
    "ln2.hook_normalized": "ln_2:in (layer_norm)",
    "mlp.hook_in": "mlp:in",
    "mlp.hook_pre": "mlp.c_fc:out",
    "mlp.hook_pre_linear": _UNGATED,
    "mlp.hook_post": "mlp.c_proj:in",
    "mlp.hook_out": "mlp:out",
    "hook_mlp_out": "mlp:out",
    "hook_resid_post": ":out",
}
_GPT_NEOX_SEQUENTIAL_HOOKS: dict[str, str | Absent] = {
    "hook_resid_pre": ":in",
    "ln1.hook_normalized": "input_layernorm:in (layer_norm)",
    "attn.hook_z": "attention.dense:in",
    "attn.hook_out": "attention:out",
    "hook_attn_out": "attention:out",
    "hook_resid_mid": "post_attention_layernorm:in",
    "ln2.hook_normalized": "post_attention_layernorm:in (layer_norm)",
    "mlp.hook_in": "mlp:in",
    "mlp.hook_pre": "mlp.dense_h_to_4h:out",
    "mlp.hook_pre_linear": _UNGATED,
    "mlp.hook_post": "mlp.dense_4h_to_h:in",
    "mlp.hook_out": "mlp:out",
    "hook_mlp_out": "mlp:out",
    "hook_resid_post": ":out",
}
_GEMMA2_HOOKS = _LLAMA_HOOKS | {
    "hook_attn_out": "post_attention_layernorm:out",
    "hook_resid_mid": "pre_feedforward_layernorm:in",
    "ln2.hook_normalized": "pre_feedforward_layernorm:in (rms_norm)",
    "hook_mlp_out": "post_feedforward_layernorm:out",
}
_OLMO2_HOOKS = _LLAMA_HOOKS | {
    "ln1.hook_normalized": _NORM_AFTER,
    "hook_attn_out": "post_attention_layernorm:out",
    "hook_resid_mid": "mlp:in",
    "ln2.hook_normalized": _NORM_AFTER,
    "hook_mlp_out": "post_feedforward_layernorm:out",
}
_EXPERTS_HOOKS = _LLAMA_HOOKS | {
    "mlp.hook_pre": _IN_EXPERTS,
    "mlp.hook_pre_linear": _IN_EXPERTS,
    "mlp.hook_post": _IN_EXPERTS,
}
_PHI_HOOKS = _LLAMA_HOOKS | {
    "ln1.hook_normalized": "input_layernorm:in (layer_norm)",
    "attn.hook_z": "self_attn.dense:in",
    "hook_resid_mid": _PARALLEL,
    "ln2.hook_normalized": Absent("one norm serves attention and MLP; it is ln1"),
    "mlp.hook_pre": "mlp.fc1:out",
    "mlp.hook_pre_linear": _UNGATED,
    "mlp.hook_post": "mlp.fc2:in",
}

_LLAMA = Architecture("layers", "embed_tokens", _LLAMA_HOOKS)
_GEMMA = Architecture("layers", "embed_tokens", _LLAMA_HOOKS, embedding_is_scaled=True)
_GEMMA2 = Architecture("layers", "embed_tokens", _GEMMA2_HOOKS, embedding_is_scaled=True)
_EXPERTS = Architecture("layers", "embed_tokens", _EXPERTS_HOOKS)
_OLMO2 = Architecture("layers", "embed_tokens", _OLMO2_HOOKS)
GPT_NEOX_SEQUENTIAL = Architecture("layers", "embed_in", _GPT_NEOX_SEQUENTIAL_HOOKS)

ARCHITECTURES: dict[str, Architecture] = {
    "gpt2": Architecture("h", "wte", _GPT2_HOOKS),
    "gpt_neox": Architecture("layers", "embed_in", _GPT_NEOX_SEQUENTIAL_HOOKS | {"hook_resid_mid": _PARALLEL}),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "gemma": _GEMMA,
    "gemma2": _GEMMA2,
    "gemma3_text": _GEMMA2,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "qwen3_moe": _EXPERTS,
    "gpt_oss": _EXPERTS,
    "olmo2": _OLMO2,
    "olmo3": _OLMO2,
    "phi": Architecture("layers", "embed_tokens", _PHI_HOOKS),
}
"""By the `model_type` of the configuration that the text model has."""


def architecture_for(config: object) -> Architecture | None:
    """The table of a model with this configuration; None where there is none."""
    model_type = getattr(config, "model_type", None)
    if model_type == "gpt_neox" and not getattr(config, "use_parallel_residual", True):
        return GPT_NEOX_SEQUENTIAL
    return ARCHITECTURES.get(model_type) if isinstance(model_type, str) else None
