"""The strings of a vocabulary, such that a window's strings concatenate to exactly the text that the model saw.

Byte-level vocabularies split characters over tokens. Each token is kept as bytes; a window is decoded
incrementally, so that the token which completes a character carries it and those before it carry nothing.
"""

from codecs import getincrementaldecoder
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from safetensors.numpy import load_file

from sae_auto_interp.cache.layout import write_arrays
from sae_auto_interp.types import Array

FILE = "vocabulary.safetensors"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Bytes of every token, by id."""

    pieces: tuple[bytes, ...]

    @classmethod
    def from_tokenizer(cls, tokenizer: Any) -> "Vocabulary":
        """Read a Hugging Face tokenizer: byte-level, sentencepiece with byte fallback, or anything that decodes."""
        size = max(len(tokenizer), *(i + 1 for i in tokenizer.get_vocab().values()))
        tokens: list[str | None] = tokenizer.convert_ids_to_tokens(list(range(size)))
        special = set(tokenizer.all_special_tokens) | set(tokenizer.get_added_vocab())
        to_byte = _byte_level_alphabet() if _is_byte_level(tokenizer) else None
        return cls(tuple(_piece(token, token in special, to_byte) for token in tokens))

    def str_tokens(self, tokens: Int[Array, " window"]) -> tuple[str, ...]:
        """One string per token; joined, they are the text (bytes that form no character become U+FFFD)."""
        decoder = getincrementaldecoder("utf-8")(errors="replace")
        strings = [decoder.decode(self._bytes_of(int(token))) for token in tokens]
        if strings:
            strings[-1] += decoder.decode(b"", final=True)
        return tuple(strings)

    def save(self, directory: Path) -> None:
        joined = b"".join(self.pieces)
        lengths = np.array([len(piece) for piece in self.pieces], dtype=np.uint32)
        write_arrays(directory / FILE, {"bytes": np.frombuffer(joined, dtype=np.uint8), "lengths": lengths})

    @classmethod
    def load(cls, directory: Path) -> "Vocabulary | None":
        """The vocabulary saved beside a cache; None when there is none."""
        path = directory / FILE
        if not path.is_file():
            return None
        arrays = load_file(path)
        joined = arrays["bytes"].tobytes()
        ends = np.cumsum(arrays["lengths"].astype(np.int64)).tolist()
        return cls(tuple(joined[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)))

    def _bytes_of(self, token: int) -> bytes:
        return self.pieces[token] if 0 <= token < len(self.pieces) else f"<token {token}>".encode()


def _piece(token: str | None, is_special: bool, to_byte: dict[str, int] | None) -> bytes:
    if token is None:
        return b""
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
