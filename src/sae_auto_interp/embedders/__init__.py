"""Embedding models: texts go in, one vector of length 1 per text comes out; their cosine says how alike two texts are.

    SentenceTransformersEmbedder   a local model (extra `embeddings`)
    OpenAIEmbedder                 any `/v1/embeddings` endpoint
    RememberingEmbedder            asks another embedder only for what it was not asked before

Importing this package loads neither torch nor an HTTP library; the names above are loaded when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sae_auto_interp.embedders._remembering import RememberingEmbedder
    from sae_auto_interp.embedders.openai import OpenAIEmbedder
    from sae_auto_interp.embedders.sentence_transformers import SentenceTransformersEmbedder

__all__ = ["OpenAIEmbedder", "RememberingEmbedder", "SentenceTransformersEmbedder"]

_HOMES = {
    "OpenAIEmbedder": "openai",
    "RememberingEmbedder": "remembering",
    "SentenceTransformersEmbedder": "sentence_transformers",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
