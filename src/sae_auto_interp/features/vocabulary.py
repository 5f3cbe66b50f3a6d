"""The strings of a vocabulary, such that a window's strings concatenate to exactly the text that the model saw.

Byte-level vocabularies split characters over tokens. Each token is kept as bytes. A token whose bytes are whole
characters has one string wherever it stands, which is looked up for all windows at once; the others, with the token
after them, are decoded incrementally, so that the token which completes a character carries it and those before it
carry nothing. `read_pieces` finds the bytes.

Byte-level vocabularies and byte fallback say which bytes a token stands for. Of every other token, the tokenizer's own
decoder says it: the token is decoded between two others, and what they contribute is taken off. So it does not matter
how a decoder marks spaces or the inside of words. Decoders that look further than to the neighbours have no such
strings; `read_pieces` compares what it found with the tokenizer's own decoding, and refuses those.
"""

import hashlib
import re
from codecs import getincrementaldecoder
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from sae_auto_interp.cache.arrays import ArrayFile
from sae_auto_interp.cache.layout import write_arrays
from sae_auto_interp.errors import CacheError, InputError
from sae_auto_interp.types import Array

FILE = "vocabulary.safetensors"


@dataclass(frozen=True)
class Vocabulary:
    """Bytes of every token, by id. A token that it does not have reads "<token 17>"."""

    pieces: tuple[bytes, ...]
    ends: tuple[int, int] = (0, 0)
    """Spaces that the tokenizer drops where a text begins, and where it ends, at most."""

    @classmethod
    def from_tokenizer(cls, tokenizer: Any) -> "Vocabulary":
        """Read a Hugging Face tokenizer. Raises `InputError` for one whose tokens have no text each."""
        found = read_pieces(tokenizer)
        return cls(found.pieces, (found.n_start, found.n_end))

    def str_tokens(self, tokens: Int[Array, " window"]) -> tuple[str, ...]:
        """One string per token; joined, they are the text (bytes that form no character become U+FFFD)."""
        return self.windows(tokens[None])[0]

    def windows(self, tokens: Int[Array, "n window"]) -> list[tuple[str, ...]]:
        """`str_tokens` of each row: every window is a text by itself, as the tokenizer decodes it."""
        strings = self._strings_of(tokens)
        if any(self.ends) and tokens.shape[1]:
            for row in strings:
                row[0] = without_spaces(row[0], self.ends[0], 0)
                row[-1] = without_spaces(row[-1], 0, self.ends[1])
        return list(map(tuple, strings.tolist()))

    def alone(self, token: int) -> str:
        """One token as it stands within a text, with the space before it."""
        return self._strings_of(np.array([[token]]))[0, 0]

    def _strings_of(self, tokens: Int[Array, "n window"]) -> Array:
        known, is_whole = self._strings
        index = np.where((tokens >= 0) & (tokens < len(self.pieces)), tokens, len(self.pieces))
        strings = known[index]
        for row, place in np.argwhere(index == len(self.pieces)).tolist():
            strings[row, place] = unknown(int(tokens[row, place]))
        in_pieces = ~is_whole[index]
        for row in np.flatnonzero(in_pieces.any(axis=1)).tolist():
            self._join_pieces(strings[row], tokens[row], in_pieces[row])
        return strings

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
        arrays = {
            "bytes": np.frombuffer(joined, dtype=np.uint8),
            "lengths": lengths,
            "sha256": _hash(joined, lengths, self.ends),
        }
        if any(self.ends):
            arrays["ends"] = np.array(self.ends, dtype=np.uint8)
        write_arrays(directory / FILE, arrays)

    @classmethod
    def load(cls, directory: Path) -> "Vocabulary | None":
        """The vocabulary saved beside a cache; None when there is none. Raises `CacheError` for a damaged one."""
        path = directory / FILE
        if not path.is_file():
            return None
        file = ArrayFile(path)
        joined, lengths = file.read("bytes").tobytes(), file.read("lengths")
        places: list[int] = np.cumsum(lengths.astype(np.int64)).tolist()
        n_start, n_end = file.read("ends").tolist() if "ends" in file.names else (0, 0)
        is_same = _is_same_hash(file, joined, lengths, (n_start, n_end))
        if (places[-1] if places else 0) != len(joined) or not is_same:
            raise CacheError(f"{path} is damaged: it is not what was written; delete {directory} and cache again")
        return cls(tuple(joined[begin:end] for begin, end in pairwise([0, *places])), (n_start, n_end))

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
        return self.pieces[token] if 0 <= token < len(self.pieces) else unknown(token).encode()


def _hash(joined: bytes, lengths: Array, ends: tuple[int, int]) -> Array:
    digest = hashlib.sha256(joined)
    digest.update(lengths.tobytes())
    if any(ends):
        digest.update(bytes(ends))
    return np.frombuffer(digest.digest(), dtype=np.uint8)


def _is_same_hash(file: ArrayFile, joined: bytes, lengths: Array, ends: tuple[int, int]) -> bool:
    """True also for files of the first version, which have no hash."""
    return "sha256" not in file.names or np.array_equal(file.read("sha256"), _hash(joined, lengths, ends))


NO_BYTE = 0xFFFD
ALL = 255
"""As a number of spaces: all that there are."""
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_N_CANDIDATES, _N_PROBED = 20, 64
_TEXTS = (
    "The quick brown fox doesn't jump over 13 lazy dogs, does it? It's a book. hello hello",
    "def f(a,  b):\n    if a    == b:\n\t\treturn [a]\n",
    "Stra\u00dfe, na\u00efve caf\u00e9; \u6771\u4eac \ud55c\uad6d\uc5b4 \u0395\u03bb \U0001f389",
)


@dataclass(frozen=True, slots=True)
class Pieces:
    """By token id."""

    pieces: tuple[bytes, ...]
    n_start: int
    """Spaces that a text's first token loses, at most: 0, 1 or `ALL`."""
    n_end: int
    """The same of its last token, behind it."""


def read_pieces(tokenizer: Any) -> Pieces:
    """Read a Hugging Face tokenizer. Raises `InputError` for one whose tokens have no text each."""
    ids: dict[str, int] = tokenizer.get_vocab()
    pieces = [unknown(token).encode() for token in range(max(ids.values(), default=-1) + 1)]
    is_byte_level = _is_byte_level(tokenizer)
    between = _Between.of(tokenizer, ids)
    literal = set(tokenizer.all_special_tokens) | set(tokenizer.get_added_vocab()) if is_byte_level else set[str]()
    to_byte = _byte_level_alphabet() if is_byte_level else None
    decoded = {} if between is None or is_byte_level else between.strings(ids.values())
    falls_back = "ByteFallback" in _decoder(tokenizer) or getattr(tokenizer, "backend_tokenizer", None) is None
    for token, index in ids.items():
        if falls_back and _BYTE.fullmatch(token):
            pieces[index] = bytes([int(token[3:5], 16)])
        elif index in decoded:
            pieces[index] = decoded[index].encode(errors="replace")
        else:
            pieces[index] = _piece(token, token in literal, to_byte)
    found = Pieces(tuple(pieces), *((0, 0) if between is None else between.ends(pieces)))
    _compare(tokenizer, found, {ids[token] for token in literal})
    return found


def unknown(token: int) -> str:
    """What stands for an id that the tokenizer does not have."""
    return f"<token {token}>"


def without_spaces(text: str, n_start: int, n_end: int) -> str:
    """A text that lacks up to this many spaces at either end."""
    first = len(text) - len(text.lstrip(" "))
    text = text[min(first, n_start) :]
    last = len(text) - len(text.rstrip(" "))
    return text[: len(text) - min(last, n_end)]


@dataclass(frozen=True, slots=True)
class _Between:
    """Decodes tokens between two others that do not run into them."""

    tokenizer: Any
    before: int
    after: int
    text_before: str
    text_after: str

    @classmethod
    def of(cls, tokenizer: Any, ids: dict[str, int]) -> "_Between | None":
        """With two tokens whose texts simply follow one another, if there are such; else the first is left whole."""
        own = set(tokenizer.get_added_vocab()) | set(tokenizer.all_special_tokens)
        words = [t for t in ids if t not in own and not _BYTE.fullmatch(t) and any(map(str.isalnum, t))]
        some = [ids[t] for t in sorted(words, key=lambda t: (len(t), t))[:_N_CANDIDATES]]
        alone = dict(zip(some, _decode(tokenizer, [[token] for token in some]), strict=True))
        pairs = [(a, b) for a in some for b in some if a != b and alone[a].strip() and alone[b].strip()]
        best = None
        for (a, b), text in zip(pairs, _decode(tokenizer, pairs), strict=True):
            if text.startswith(alone[a]) and len(text) > len(alone[a]):
                found = cls(tokenizer, a, b, alone[a], text[len(alone[a]) :])
                if found.text_after == alone[b]:
                    return found
                best = best or found
        return best

    def strings(self, tokens: Iterable[int]) -> dict[int, str]:
        """What each token adds to a text, where the two others are still there."""
        tokens = list(tokens)
        whole = _decode(self.tokenizer, [[self.before, token, self.after] for token in tokens])
        n_before, n_after = len(self.text_before), len(self.text_after)
        return {
            token: text[n_before : len(text) - n_after]
            for token, text in zip(tokens, whole, strict=True)
            if text.startswith(self.text_before) and text[n_before:].endswith(self.text_after)
        }

    def ends(self, pieces: Sequence[bytes]) -> tuple[int, int]:
        """How many spaces a text loses at its beginning and at its end."""
        texts = {token: piece.decode(errors="replace") for token, piece in enumerate(pieces)}
        starting = _most_spaced({t: len(text) - len(text.lstrip(" ")) for t, text in texts.items()})
        ending = _most_spaced({t: len(text) - len(text.rstrip(" ")) for t, text in texts.items()})
        first = [text.removesuffix(self.text_after) for text in self._decoded([[t, self.after] for t in starting])]
        last = [text.removeprefix(self.text_before) for text in self._decoded([[self.before, t] for t in ending])]
        wanted_first, wanted_last = ([texts[token] for token in tokens] for tokens in (starting, ending))
        n_start = [n for n in (0, 1, ALL) if [without_spaces(text, n, 0) for text in wanted_first] == first]
        n_end = [n for n in (0, 1, ALL) if [without_spaces(text, 0, n) for text in wanted_last] == last]
        return next(iter(n_start), 0), next(iter(n_end), 0)

    def _decoded(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return _decode(self.tokenizer, rows)


def _most_spaced(n_spaces: dict[int, int]) -> list[int]:
    """Some tokens with spaces, half of them those with the most."""
    spaced = sorted((token for token, n in n_spaces.items() if n), key=lambda token: (-n_spaces[token], token))
    half = _N_PROBED // 2
    return spaced[:half] + spaced[half:][-half:]


def _compare(tokenizer: Any, found: Pieces, literal: set[int]) -> None:
    """Raise `InputError` where a text of the tokenizer's own does not come out as it decodes it.

    Texts with `literal` tokens are passed over: those stand for themselves, whatever the decoder makes of them.
    """
    for text in (*_TEXTS, *_own_texts(found.pieces)):
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
        if not literal.isdisjoint(ids):
            continue
        wanted = _decode(tokenizer, [ids])[0]
        joined = b"".join(found.pieces[token] for token in ids).decode(errors="replace")
        made = without_spaces(joined, found.n_start, found.n_end)
        if _plain(made) != _plain(wanted):
            raise InputError(
                f"the tokenizer's decoder ({_decoder(tokenizer)[:60] or type(tokenizer).__name__}) gives its tokens no "
                f"text each: {wanted[:60]!r} would read {made[:60]!r}; give a model whose tokens, joined, are the text"
            )


def _own_texts(pieces: Sequence[bytes]) -> list[str]:
    """Texts of the vocabulary's own words, some of them twice, so that there is text for every tokenizer."""
    step = max(1, len(pieces) // 240)
    words = [piece.decode(errors="ignore").strip() for piece in pieces[::step]]
    words = [word for word in words if word.isalnum()]
    rows = [words[i : i + 12] for i in range(0, min(len(words), 240), 12)]
    return [" ".join([*row, *row[:1], *row[:1]]) for row in rows]


def _plain(text: str) -> str:
    """Bytes that form no character are shown by one or by several signs, as decoders please."""
    return re.sub("\ufffd+", "\ufffd", text)


def _decode(tokenizer: Any, rows: Sequence[Sequence[int]]) -> list[str]:
    """Without tidying up, special tokens included."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return backend.decode_batch([list(row) for row in rows], skip_special_tokens=False)
    plain: dict[str, Any] = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    return [tokenizer.decode(list(row), **plain) for row in rows]


def _piece(token: str, is_literal: bool, to_byte: dict[int, int] | None) -> bytes:
    if is_literal:
        return token.encode()
    if to_byte is not None:
        try:
            return token.translate(to_byte).encode("latin-1")
        except UnicodeEncodeError:  # a character that stands for no byte
            pass
    return token.replace("\u2581", " ").encode()


def _decoder(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return "" if backend is None or backend.decoder is None else repr(backend.decoder)


def _is_byte_level(tokenizer: Any) -> bool:
    return "ByteLevel" in _decoder(tokenizer)


def _byte_level_alphabet() -> dict[int, int]:
    """GPT-2's printable stand-ins for bytes: printable Latin-1 stands for itself, the rest for U+0100 upwards.

    From code point to byte. Latin-1 that is not printable stands for nothing, and becomes what is no byte.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    stand_ins = {256 + n: byte for n, byte in enumerate(others)}
    return dict.fromkeys(others, NO_BYTE) | {byte: byte for byte in printable} | stand_ins
