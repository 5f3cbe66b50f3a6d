"""A sentence-transformers model on this machine (N. Reimers and I. Gurevych, arXiv 1908.10084).

In: texts. Out: their normalised vectors. The model is loaded when the first text is embedded and then kept. One text is
embedded at a time per process (a lock, in a thread of its own), which leaves the event loop free for requests.
"""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Float32

from sae_auto_interp.errors import ConfigError, MissingExtraError
from sae_auto_interp.model_loading.failures import loading_failures
from sae_auto_interp.model_loading.pretrained import require_complete_files
from sae_auto_interp.types import Array

_POOLER = "pooler."
"""A layer behind the first token that BERT's class has and sentence-transformers never reads; many files lack it."""


@runtime_checkable
class _Model(Protocol):
    """What of `sentence_transformers.SentenceTransformer` is used."""

    def encode(
        self, sentences: list[str], *, batch_size: int, normalize_embeddings: bool, show_progress_bar: bool
    ) -> Array: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class SentenceTransformersEmbedder:
    """Raises `MissingExtraError` where the package is not installed, `InputError` for a model that is none."""

    model: str
    """A directory, or a name on the hub, e.g. sentence-transformers/all-MiniLM-L6-v2."""
    revision: str | None = None
    """Commit, branch or tag on the hub; None: the newest."""
    device: str | None = None
    """A torch device; None: a GPU if there is one."""
    batch_size: int = 32
    """Texts at a time; it changes the last bits of a vector."""
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        if find_spec("sentence_transformers") is None:
            raise MissingExtraError("sentence-transformers", "embeddings", "embedding texts on this machine")
        if self.batch_size < 1:
            raise ConfigError(f"embedders.sentence_transformers.batch_size={self.batch_size}; give at least 1")

    @property
    def name(self) -> str:
        """The last part of the model's address: results are filed under it, and a folder may move."""
        return f"sentence_transformers:{self.model.rstrip('/').rpartition('/')[2]}"

    async def embed(self, texts: Sequence[str]) -> Float32[Array, "n d"]:
        if not texts:
            return np.zeros((0, 0), np.float32)
        return await asyncio.to_thread(self._encode, list(texts))

    async def close(self) -> None:
        """Let go of the model; a later use loads it again."""
        self.__dict__.pop("_model", None)

    def _encode(self, texts: list[str]) -> Float32[Array, "n d"]:
        with self._lock:
            vectors = self._model.encode(
                texts, batch_size=self.batch_size, normalize_embeddings=True, show_progress_bar=False
            )
        return np.asarray(vectors, dtype=np.float32)

    @cached_property
    def _model(self) -> _Model:
        with loading_failures(repr(self.model), self.model, "cannot be loaded as a sentence-transformers model"):
            load = import_module("sentence_transformers").SentenceTransformer
            model = load(self.model, revision=self.revision, device=self.device, trust_remote_code=False)
            require_complete_files(f"the embedder {self.model!r}", model, self.revision, unread=(_POOLER,))
        return cast(_Model, model)
