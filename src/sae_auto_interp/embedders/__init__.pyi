"""The public names, each with the module that it is in; they load when they are first used."""

from ._remembering import RememberingEmbedder as RememberingEmbedder
from .openai import OpenAIEmbedder as OpenAIEmbedder
from .sentence_transformers import SentenceTransformersEmbedder as SentenceTransformersEmbedder

__all__: list[str]
