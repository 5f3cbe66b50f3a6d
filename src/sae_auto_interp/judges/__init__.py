"""Judges: (explanation, shown examples) -> verdicts. Any judge serves any classification scorer.

A judge sees tokens and marks, never an activation and never which examples are which.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sae_auto_interp.judges.embedding import EmbeddingJudge
    from sae_auto_interp.judges.function import FunctionJudge
    from sae_auto_interp.judges.hidden import HiddenJudge
    from sae_auto_interp.judges.lexical import LexicalJudge
    from sae_auto_interp.judges.llm import LlmJudge

__all__ = ["EmbeddingJudge", "FunctionJudge", "HiddenJudge", "LexicalJudge", "LlmJudge"]

_HOMES = {
    "EmbeddingJudge": "embedding",
    "FunctionJudge": "function",
    "HiddenJudge": "hidden",
    "LexicalJudge": "lexical",
    "LlmJudge": "llm",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
