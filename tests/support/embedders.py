"""An embedding model whose cosines are known beforehand: bags of words."""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sae_auto_interp.errors import ClientError


@dataclass(frozen=True, eq=False)
class WordsEmbedder:
    """Counts words, each a direction of its own; a text without words has a direction too. Remembers every call."""

    scale: float = 1.0
    error: ClientError | None = None
    calls: list[list[str]] = field(default_factory=list)
    words: dict[str, int] = field(default_factory=dict)
    name: str = "words"

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.calls.append(list(texts))
        if self.error is not None:
            raise self.error
        vectors = np.zeros((len(texts), 512), np.float32)
        for i, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()) or ["(nothing)"]:
                vectors[i, self.words.setdefault(word, len(self.words))] += self.scale
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    async def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class BagOfHashes:
    """As `WordsEmbedder` for any number of words: some of them share a direction."""

    name: str = "hashes"

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.full((len(texts), 256), 1e-3, np.float32)
        for i, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                vectors[i, zlib.crc32(word.encode()) % 256] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    async def close(self) -> None:
        """Nothing is open."""
