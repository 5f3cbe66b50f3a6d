"""The strings of a vocabulary, such that a window's strings concatenate to exactly the text that the model saw.

Byte-level vocabularies split characters over tokens. Each token is kept as bytes. A token whose bytes are whole
characters has one string wherever it stands, which is looked up for all windows at once; the others, with the token
after them, are decoded incrementally, so that the token which completes a character carries it and those before it
carry nothing.
"""

import hashlib
from codecs import getincrementaldecoder
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from sae_auto_interp.cache.arrays import ArrayFile
from sae_auto_interp.cache.layout import write_arrays
from sae_auto_interp.errors import CacheError
from sae_auto_interp.types import Array

FILE = "vocabulary.safetensors"
NO_BYTE = 0xFFFD


@dataclass(frozen=True)
class Vocabulary:
    """Bytes of every token, by id. A token that it does not have reads "<token 17>"."""

    pieces: tuple[bytes, ...]

    @classmethod
    def from_tokenizer(cls, tokenizer: Any) -> "Vocabulary":
        """Read a Hugging Face tokenizer: byte-level, sentencepiece with byte fallback, or anything that decodes."""
        ids: dict[str, int] = tokenizer.get_vocab()
        special = set(tokenizer.all_special_tokens) | set(tokenizer.get_added_vocab())
        to_byte = _byte_level_alphabet() if _is_byte_level(tokenizer) else None
        pieces = [_unknown(token).encode() for token in range(max(ids.values(), default=-1) + 1)]
        for token, index in ids.items():
            pieces[index] = _piece(token, token in special, to_byte)
        return cls(tuple(pieces))

    def str_tokens(self, tokens: Int[Array, " window"]) -> tuple[str, ...]:
        """One string per token; joined, they are the text (bytes that form no character become U+FFFD)."""
        return self.windows(tokens[None])[0]

    def windows(self, tokens: Int[Array, "n window"]) -> list[tuple[str, ...]]:
        """`str_tokens` of each row: every window is a text by itself."""
        known, is_whole = self._strings
        index = np.where((tokens >= 0) & (tokens < len(self.pieces)), tokens, len(self.pieces))
        strings = known[index]
        for row, place in np.argwhere(index == len(self.pieces)).tolist():
            strings[row, place] = _unknown(int(tokens[row, place]))
        in_pieces = ~is_whole[index]
        for row in np.flatnonzero(in_pieces.any(axis=1)).tolist():
            self._join_pieces(strings[row], tokens[row], in_pieces[row])
        return list(map(tuple, strings.tolist()))

    def _join_pieces(self, strings: Array, tokens: Int[Array, " window"], in_pieces: Bool[Array, " window"]) -> None:
        """Decode each stretch of tokens that are not whole characters, and the token after it, in place."""
        place, window = 0, len(tokens)
        while place < window:
            if not in_pieces[place]:
                place += 1
                continue
            decoder = getincrementaldecoder("utf-8")(errors="replace")
            is_open = True
            while is_open and place < window:
                is_open = bool(in_pieces[place])
                strings[place] = decoder.decode(self._bytes_of(int(tokens[place])))
                place += 1
            strings[place - 1] += decoder.decode(b"", final=True)

    def save(self, directory: Path) -> None:
        """Write the vocabulary beside a cache."""
        joined = b"".join(self.pieces)
        lengths = np.array([len(piece) for piece in self.pieces], dtype=np.uint32)
        arrays = {"bytes": np.frombuffer(joined, dtype=np.uint8), "lengths": lengths, "sha256": _hash(joined, lengths)}
        write_arrays(directory / FILE, arrays)

    @classmethod
    def load(cls, directory: Path) -> "Vocabulary | None":
        """The vocabulary saved beside a cache; None when there is none. Raises `CacheError` for a damaged one."""
        path = directory / FILE
        if not path.is_file():
            return None
        file = ArrayFile(path)
        joined, lengths = file.read("bytes").tobytes(), file.read("lengths")
        ends: list[int] = np.cumsum(lengths.astype(np.int64)).tolist()
        if (ends[-1] if ends else 0) != len(joined) or not _is_same_hash(file, joined, lengths):
            raise CacheError(f"{path} is damaged: it is not what was written; delete {directory} and cache again")
        return cls(tuple(joined[begin:end] for begin, end in pairwise([0, *ends])))

    @cached_property
    def _strings(self) -> tuple[Array, Bool[Array, " n_tokens_plus_1"]]:
        """The string of each token, and whether its bytes are whole characters; the last entry stands for unknown
        ones."""
        strings = np.full(len(self.pieces) + 1, "", dtype=np.object_)
        is_whole = np.zeros(len(self.pieces) + 1, dtype=np.bool_)
        is_whole[-1] = True
        for token, piece in enumerate(self.pieces):
            try:
                strings[token] = piece.decode()
                is_whole[token] = len(piece) > 0  # nothing completes nothing
            except UnicodeDecodeError:
                continue
        return strings, is_whole

    def _bytes_of(self, token: int) -> bytes:
        return self.pieces[token] if 0 <= token < len(self.pieces) else _unknown(token).encode()


def _unknown(token: int) -> str:
    return f"<token {token}>"


def _hash(joined: bytes, lengths: Array) -> Array:
    digest = hashlib.sha256(joined)
    digest.update(lengths.tobytes())
    return np.frombuffer(digest.digest(), dtype=np.uint8)


def _is_same_hash(file: ArrayFile, joined: bytes, lengths: Array) -> bool:
    """True also for files of the first version, which have no hash."""
    return "sha256" not in file.names or np.array_equal(file.read("sha256"), _hash(joined, lengths))


def _piece(token: str, is_special: bool, to_byte: dict[int, int] | None) -> bytes:
    if is_special:
        return token.encode()
    if to_byte is not None:
        try:
            return token.translate(to_byte).encode("latin-1")
        except UnicodeEncodeError:  # a character that stands for no byte
            pass
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace("\u2581", " ").encode()


def _is_byte_level(tokenizer: Any) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend is not None and "ByteLevel" in repr(backend.decoder)


def _byte_level_alphabet() -> dict[int, int]:
    """GPT-2's printable stand-ins for bytes: printable Latin-1 stands for itself, the rest for U+0100 upwards.

    From code point to byte. Latin-1 that is not printable stands for nothing, and becomes what is no byte.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    stand_ins = {256 + n: byte for n, byte in enumerate(others)}
    return dict.fromkeys(others, NO_BYTE) | {byte: byte for byte in printable} | stand_ins
