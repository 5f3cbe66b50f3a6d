"""How many positions a model has, and whether it can read beyond them.

Positions that were learned, or are looked up in a table, end with the table. Rotary and relative ones go on, but the
model was not trained there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sae_auto_interp.errors import InputError


@dataclass(frozen=True, slots=True)
class PositionLimit:
    """Tokens that a model reads at once."""

    n_tokens: int
    is_end: bool
    """There is no position beyond; otherwise the model was not trained there."""


def position_limit(model: Any) -> PositionLimit | None:
    """What a model's settings and tables say; None where neither says anything. The weights may be on `meta`."""
    config: Any = getattr(model, "config", None)
    settings = config.get_text_config() if hasattr(config, "get_text_config") else config
    stated = getattr(settings, "max_position_embeddings", None) or getattr(settings, "max_seq_len", None)
    if not isinstance(stated, int):
        return None
    ends = list(_table_ends(model, stated))
    has_table_of_biases = bool(getattr(getattr(settings, "attn_config", None), "alibi", False))  # MPT's, of that length
    return PositionLimit(min(ends, default=stated), bool(ends) or has_table_of_biases)


def beyond_positions(limit: PositionLimit | None, n_tokens: int, what: str) -> str | None:
    """A warning where rows go beyond what a model was trained for; None where they do not.

    `what` says what decides their length: "data.ctx_len". Raises `InputError` where the model has no such positions.
    """
    if limit is None or n_tokens <= limit.n_tokens:
        return None
    if limit.is_end:
        raise InputError(f"{what}: {n_tokens} is more than the model's {limit.n_tokens} positions; give at most that")
    return f"{what}: {n_tokens} is more than the {limit.n_tokens} positions that the model was trained for"


def _table_ends(model: Any, stated: int) -> Iterator[int]:
    """The positions of each table of positions, which is known by its name and its length.

    Some tables begin behind unused rows: an `offset`, or all up to the padding id.
    """
    for path, module in model.named_modules():
        if "num_embeddings" in vars(module) and _is_about_positions(path):
            padding = getattr(module, "padding_idx", None)
            first = getattr(module, "offset", 0 if padding is None else padding + 1)
            if stated in (module.num_embeddings, module.num_embeddings - first):
                yield module.num_embeddings - first
        elif not hasattr(module, "make_weights"):  # which lengthens its table when it must
            tables: dict[str, Any] = {**vars(module), **dict(module.named_buffers(recurse=False))}
            shapes = {name: getattr(table, "shape", ()) for name, table in tables.items() if _is_about_positions(name)}
            yield from (stated for shape in shapes.values() if len(shape) == 2 and shape[0] == stated)


def _is_about_positions(path: str) -> bool:
    name = path.rpartition(".")[2]
    return "pos" in name or name == "wpe"
