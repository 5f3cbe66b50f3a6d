"""A tiny random model of each architecture.

All weights are random, also the norms', so that no gain is one; and the norms' epsilon is large enough to be seen.
"""

from typing import Any

import torch

VOCAB, D_MODEL, N_LAYERS = 50, 16, 3
EPSILON = 0.01
_DECODER = {
    "vocab_size": VOCAB, "hidden_size": D_MODEL, "intermediate_size": 24, "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "rms_norm_eps": EPSILON, "layer_norm_eps": EPSILON,
}  # fmt: skip
_GPT2 = {
    "vocab_size": VOCAB, "n_positions": 64, "n_embd": D_MODEL, "n_layer": N_LAYERS, "n_head": 2,
    "layer_norm_epsilon": EPSILON,
}  # fmt: skip
_GROUPED = _DECODER | {"num_key_value_heads": 2}
_WIDE_HEADS = _GROUPED | {"head_dim": 6}  # heads together wider than the model
_QWEN_EXPERTS = {
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "norm_topk_prob": True,
}  # fmt: skip
_EXPERTS = {
    "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 4,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}  # fmt: skip
_VISION = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
CAUSAL: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", _GPT2),
    "gpt_neox": ("GPTNeoX", _DECODER),
    "gpt_neox_sequential": ("GPTNeoX", _DECODER | {"use_parallel_residual": False}),
    "llama": ("Llama", _GROUPED),
    "mistral": ("Mistral", _GROUPED),
    "gemma": ("Gemma", _WIDE_HEADS),
    "gemma2": ("Gemma2", _WIDE_HEADS | {"query_pre_attn_scalar": 6}),
    "gemma3": ("Gemma3", _WIDE_HEADS | {"query_pre_attn_scalar": 6, "sliding_window": 4}),
    "qwen2": ("Qwen2", _GROUPED),
    "qwen3": ("Qwen3", _WIDE_HEADS),
    "qwen3_moe": ("Qwen3Moe", _WIDE_HEADS | _QWEN_EXPERTS),
    "gpt_oss": ("GptOss", _WIDE_HEADS | _EXPERTS),
    "olmo2": ("Olmo2", _GROUPED),
    "olmo3": ("Olmo3", _GROUPED | {"sliding_window": 4}),
    "phi": ("Phi", _GROUPED | {"partial_rotary_factor": 0.5}),
}
"""{name here: (beginning of the class's name, settings)}."""
NAMES = (*CAUSAL, "gemma3_multimodal")


def tiny_model(name: str, seed: int = 0) -> Any:
    """In evaluation mode; three layers of 16 dimensions."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _built(name).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def _built(name: str) -> Any:
    import transformers

    if name == "gemma3_multimodal":
        text = CAUSAL["gemma3"][1]
        config = transformers.Gemma3Config(text_config=text, vision_config=_VISION, mm_tokens_per_image=4)
        return transformers.Gemma3ForConditionalGeneration(config)
    prefix, settings = CAUSAL[name]
    configuration = "Gemma3TextConfig" if name == "gemma3" else f"{prefix}Config"
    head = "LMHeadModel" if name == "gpt2" else "ForCausalLM"
    return getattr(transformers, prefix + head)(getattr(transformers, configuration)(**settings))
