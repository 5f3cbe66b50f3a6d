"""The strings of a vocabulary, such that a window's strings concatenate to exactly the text that the model saw.

Byte-level vocabularies split characters over tokens. Each token is kept as bytes; a window is decoded
incrementally, so that the token which completes a character carries it and those before it carry nothing.
"""

from codecs import getincrementaldecoder
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from sae_auto_interp.cache.arrays import opened, whole
from sae_auto_interp.cache.layout import write_arrays
from sae_auto_interp.types import Array

FILE = "vocabulary.safetensors"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Bytes of every token, by id. A token that it does not have reads "<token 17>"."""

    pieces: tuple[bytes, ...]

    @classmethod
    def from_tokenizer(cls, tokenizer: Any) -> "Vocabulary":
        """Read a Hugging Face tokenizer: byte-level, sentencepiece with byte fallback, or anything that decodes."""
        ids: dict[str, int] = tokenizer.get_vocab()
        special = set(tokenizer.all_special_tokens) | set(tokenizer.get_added_vocab())
        to_byte = _byte_level_alphabet() if _is_byte_level(tokenizer) else None
        pieces = [f"<token {token}>".encode() for token in range(max(ids.values(), default=-1) + 1)]
        for token, index in ids.items():
            pieces[index] = _piece(token, token in special, to_byte)
        return cls(tuple(pieces))

    def str_tokens(self, tokens: Int[Array, " window"]) -> tuple[str, ...]:
        """One string per token; joined, they are the text (bytes that form no character become U+FFFD)."""
        decoder = getincrementaldecoder("utf-8")(errors="replace")
        strings = [decoder.decode(self._bytes_of(int(token))) for token in tokens]
        if strings:
            strings[-1] += decoder.decode(b"", final=True)
        return tuple(strings)

    def save(self, directory: Path) -> None:
        """Write the vocabulary beside a cache."""
        joined = b"".join(self.pieces)
        lengths = np.array([len(piece) for piece in self.pieces], dtype=np.uint32)
        write_arrays(directory / FILE, {"bytes": np.frombuffer(joined, dtype=np.uint8), "lengths": lengths})

    @classmethod
    def load(cls, directory: Path) -> "Vocabulary | None":
        """The vocabulary saved beside a cache; None when there is none. Raises `CacheError` for a damaged one."""
        path = directory / FILE
        if not path.is_file():
            return None
        file = opened(path)
        joined = whole(file, "bytes", path).tobytes()
        ends = np.cumsum(whole(file, "lengths", path).astype(np.int64)).tolist()
        return cls(tuple(joined[begin:end] for begin, end in pairwise([0, *ends])))

    def _bytes_of(self, token: int) -> bytes:
        return self.pieces[token] if 0 <= token < len(self.pieces) else f"<token {token}>".encode()


def _piece(token: str, is_special: bool, to_byte: dict[str, int] | None) -> bytes:
    if is_special:
        return token.encode()
    if to_byte is not None and all(character in to_byte for character in token):
        return bytes(to_byte[character] for character in token)
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace("\u2581", " ").encode()


def _is_byte_level(tokenizer: Any) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend is not None and "ByteLevel" in repr(backend.decoder)


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes: printable Latin-1 stands for itself, the rest for U+0100 upwards."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
