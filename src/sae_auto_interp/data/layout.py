"""How texts are laid out in rows, and one row of it: BOS in front, tokens, padding behind, and whose each position is.

Right padding leaves the positions of a GPT-2 as they are. Padding, BOS and special tokens belong to no document, so
they can never count as a feature's firing; the model does read them (all but the padding): deleting BOS changes every
activation of models that were trained with it.

Special ids are `all_special_ids`, and every added token that is marked special: the turn markers of chat models are
often only that.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Int32, Int64

from sae_auto_interp.errors import ConfigError, InputError
from sae_auto_interp.types import NO_DOCUMENT, Array, TokenRows

Marker = Literal["bos", "eos"]


def special_ids(tokenizer: Any) -> Int64[Array, " n"]:
    """Ids that stand for no text, sorted."""
    added: dict[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    marked = [index for index, token in added.items() if token.special]
    return np.unique(np.array([*tokenizer.all_special_ids, *marked], dtype=np.int64))


def marker_id(tokenizer: Any, marker: Marker, why: str) -> int:
    """The BOS or EOS id; raises `InputError`, saying `why` it is needed, when the tokenizer has none."""
    found = getattr(tokenizer, f"{marker}_token_id")
    if found is None:
        raise InputError(f"{why}, but the tokenizer has none")
    return int(found)


def padding_id(tokenizer: Any) -> int:
    """What short rows are filled with; the model is told not to look at it."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0


def tokenizer_sha256(tokenizer: Any) -> str:
    """Digest of everything that decides ids: the tokenizer's own description, its special ids and chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    markers = [tokenizer.bos_token_id, tokenizer.eos_token_id, padding_id(tokenizer), *special_ids(tokenizer).tolist()]
    template = getattr(tokenizer, "chat_template", None)
    return hashlib.sha256(json.dumps([content, markers, template], sort_keys=True).encode()).hexdigest()


SEPARATORS = ("auto", "eos", "bos", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLayout:
    """Settings of rows; equal ones give equal rows of equal texts."""

    ctx_len: int
    n_tokens: int
    """Text tokens wanted at least; masked positions do not count."""
    prepend_bos: bool = False
    packing: bool = False
    """Fill rows with successive documents, instead of one document and padding."""
    separator: str = "auto"
    """Between packed documents: BOS before each, EOS after each, or nothing; auto is BOS where rows begin with it."""
    mask_special_tokens: bool = True
    """Whether special tokens within the text belong to no document either."""

    def __post_init__(self) -> None:
        if self.n_tokens < 1 or self.room < 1:
            raise InputError(
                f"n_tokens={self.n_tokens} and ctx_len={self.ctx_len} leave no room for text; give more of both"
            )
        if self.separator not in SEPARATORS:
            raise ConfigError(f"data.separator={self.separator!r}; give one of {', '.join(SEPARATORS)}")

    @property
    def room(self) -> int:
        """Tokens of a row that are not the BOS in front."""
        return self.ctx_len - self.prepend_bos

    @property
    def least(self) -> int:
        """Tokens below which a last row is left out: it would be mostly padding."""
        return max(1, self.room // 4)


@dataclass(frozen=True, slots=True)
class Row:
    tokens: Int32[Array, " ctx_len"]
    documents: Int32[Array, " ctx_len"]

    @property
    def n_text_tokens(self) -> int:
        return int((self.documents != NO_DOCUMENT).sum())


class RowFiller:
    """Makes the rows of one layout with one tokenizer; raises `InputError` when BOS is wanted and there is none."""

    def __init__(self, layout: RowLayout, tokenizer: Any) -> None:
        self.layout = layout
        self.tokenizer = tokenizer
        why = "rows are to begin with BOS (set data.prepend_bos: false for rows without)"
        self._start = [marker_id(tokenizer, "bos", why)] if layout.prepend_bos else []
        self._padding = padding_id(tokenizer)
        self._special = special_ids(tokenizer)

    def ids_of(self, text: str) -> Int32[Array, " n"]:
        """Token ids of a text. A BOS that it brings itself goes, where each row gets one: two would be a novelty."""
        try:
            ids = np.array(self.tokenizer.encode(text, add_special_tokens=False, verbose=False), dtype=np.int32)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"the model's tokenizer cannot be used; its files are damaged ({error})") from error
        return ids[1:] if self._start and len(ids) and ids[0] == self._start[0] else ids

    def is_special(self, ids: Int32[Array, " n"]) -> Bool[Array, " n"]:
        return np.isin(ids, self._special)

    def row(self, ids: Int32[Array, " n"], owners: Int32[Array, " n"] | Int64[Array, " n"] | int) -> Row:
        """The row of at most `room` ids that belong to `owners`, one for all or one for each."""
        begin, end = len(self._start), len(self._start) + len(ids)
        assert end <= self.layout.ctx_len, f"{len(ids)} ids for {self.layout.room} places"
        tokens = np.full(self.layout.ctx_len, self._padding, dtype=np.int32)
        documents = np.full(self.layout.ctx_len, NO_DOCUMENT, dtype=np.int32)
        tokens[:begin], tokens[begin:end] = self._start, ids
        documents[begin:end] = owners
        if self.layout.mask_special_tokens:
            documents[begin:end][self.is_special(ids)] = NO_DOCUMENT
        return Row(tokens, documents)


def collected(rows: Iterable[Row], names: list[str], n_tokens: int) -> TokenRows | None:
    """The first rows that hold `n_tokens` text tokens together, or all; None when there is no text.

    Rows without text are left out. `names` may grow while the rows come, by the documents that they begin.
    """
    kept: list[Row] = []
    n_collected = 0
    for row in rows:
        if row.n_text_tokens:
            kept.append(row)
            n_collected += row.n_text_tokens
        if n_collected >= n_tokens:
            break
    if not kept:
        return None
    documents = np.stack([row.documents for row in kept])
    n_documents = int(documents.max()) + 1
    return TokenRows(np.stack([row.tokens for row in kept]), documents, tuple(names[:n_documents]))
