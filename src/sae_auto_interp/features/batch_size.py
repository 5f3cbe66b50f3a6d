"""How many rows go through the subject model at a time when nobody says: as many as fit a budget of memory."""

from typing import Any

BUDGET_BYTES = {"cpu": 128 << 20}
BUDGET_BYTES_ON_DEVICE = 4 << 30
VECTORS_PER_TOKEN = 24
"""Of the model's width, that are alive at a time: residual stream, attention, an MLP of four times the width."""
BYTES_PER_NUMBER = 4


def rows_per_batch(config: Any, ctx_len: int, device_type: str) -> int:
    """Rows whose forward pass needs about the budget, but at least one and at most 256.

    `config` is the model's Hugging Face configuration; what it does not tell is taken as for a small model. The same on
    every machine of a kind.
    """
    budget = BUDGET_BYTES.get(device_type, BUDGET_BYTES_ON_DEVICE)
    return max(1, min(256, budget // bytes_per_row(config, ctx_len)))


def bytes_per_row(config: Any, ctx_len: int) -> int:
    """Of the activations of one layer and its attention scores, in float32."""
    hidden = _number(config, "hidden_size", 768)
    heads = _number(config, "num_attention_heads", 12)
    return BYTES_PER_NUMBER * (VECTORS_PER_TOKEN * hidden + 2 * heads * ctx_len) * ctx_len


def _number(config: Any, name: str, otherwise: int) -> int:
    text_config = getattr(config, "text_config", None) or config
    value = getattr(text_config, name, None)
    return value if isinstance(value, int) and value > 0 else otherwise
