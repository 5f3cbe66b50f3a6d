"""Token rows: they hold one document each, padding and BOS belong to none, and the budget is kept."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from sae_auto_interp.data.rows import build_token_rows
from sae_auto_interp.errors import InputError
from sae_auto_interp.types import NO_DOCUMENT, Document, TokenRows

PADDING, BOS = 98, 99


class NumberTokenizer:
    """Each word is a number, and that number is its token."""

    def __init__(self, pad: int | None = PADDING, eos: int | None = 97, bos: int | None = BOS) -> None:
        self.pad_token_id, self.eos_token_id, self.bos_token_id = pad, eos, bos
        self.all_special_ids = [index for index in (pad, eos, bos) if index is not None]

    def encode(self, text: str, *, add_special_tokens: bool, verbose: bool) -> list[int]:
        assert not add_special_tokens
        assert not verbose
        return [int(word) for word in text.split()]


def document(number: int, n_tokens: int) -> Document:
    """Its tokens count up from 1000 times its number, so that each is known by sight."""
    return Document(f"document {number}", " ".join(str(1000 * number + i) for i in range(n_tokens)))


def rows_of(lengths: list[int], n_tokens: int = 10**9, ctx_len: int = 8, **options: Any) -> TokenRows:
    tokenizer = options.pop("tokenizer", NumberTokenizer())
    documents = [document(number, length) for number, length in enumerate(lengths, start=1)]
    return build_token_rows(documents, tokenizer, ctx_len=ctx_len, n_tokens=n_tokens, **options)


def test_documents_are_cut_into_rows_and_padded_on_the_right() -> None:
    rows = rows_of([11, 8, 3], ctx_len=8)
    p = PADDING
    assert rows.tokens.tolist() == [
        [1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007],
        [1008, 1009, 1010, p, p, p, p, p],
        [2000, 2001, 2002, 2003, 2004, 2005, 2006, 2007],
        [3000, 3001, 3002, p, p, p, p, p],
    ]
    n = NO_DOCUMENT
    assert rows.documents.tolist() == [[0] * 8, [0, 0, 0, n, n, n, n, n], [1] * 8, [2, 2, 2, n, n, n, n, n]]
    assert rows.document_names == ("document 1", "document 2", "document 3")
    assert rows.n_text_tokens == 22


def test_bos_stands_in_front_of_every_row_and_belongs_to_no_document() -> None:
    rows = rows_of([11, 5], ctx_len=8, prepend_bos=True)
    assert rows.tokens[:, 0].tolist() == [BOS] * 3
    assert rows.documents[:, 0].tolist() == [NO_DOCUMENT] * 3
    assert rows.tokens[0, 1:].tolist() == list(range(1000, 1007))
    assert rows.tokens[1, 1:5].tolist() == list(range(1007, 1011))
    assert rows.n_text_tokens == 16


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(2, 12), st.integers(1, 120), st.booleans())
def test_rows_never_mix_documents_and_hold_what_was_asked_for(
    lengths: list[int], ctx_len: int, n_tokens: int, prepend_bos: bool
) -> None:
    shortest = max(1, ctx_len // 4)
    if max(lengths) < shortest:
        with pytest.raises(InputError, match=f"no document of at least {shortest} tokens"):
            rows_of(lengths, n_tokens, ctx_len, prepend_bos=prepend_bos)
        return
    rows = rows_of(lengths, n_tokens, ctx_len, prepend_bos=prepend_bos)
    room = ctx_len - prepend_bos
    seen: list[int] = []
    for tokens, owners in zip(rows.tokens, rows.documents, strict=True):
        is_text = owners != NO_DOCUMENT
        text = tokens[is_text]
        assert len({int(owner) for owner in owners[is_text]}) == 1, "one document a row"
        assert np.array_equal(is_text, np.isin(np.arange(ctx_len) - prepend_bos, np.arange(len(text)))), "no gaps"
        number = int(rows.document_names[owners[is_text][0]].split()[1])
        assert set(text // 1000) == {number}, "the row's tokens are its document's"
        assert set(tokens[~is_text]) <= ({PADDING} | ({BOS} if prepend_bos else set()))
        seen += text.tolist()
    assert len(seen) == len(set(seen)), "no token twice"
    assert rows.n_text_tokens >= n_tokens or rows_of(
        lengths, 10**9, ctx_len, prepend_bos=prepend_bos
    ).n_text_tokens == len(seen)
    assert rows.n_text_tokens - n_tokens < room, "at most one row too many"
    assert all(lengths[int(name.split()[1]) - 1] >= shortest for name in rows.document_names)


def test_documents_are_taken_until_there_is_enough_and_no_further() -> None:
    read: list[str] = []

    def endless() -> Any:
        for number in range(1, 10_000):
            read.append(f"document {number}")
            yield document(number, 20)

    rows = build_token_rows(endless(), NumberTokenizer(), ctx_len=8, n_tokens=50)
    assert rows.n_text_tokens == 56
    assert len(read) <= 4
    assert rows.n_rows == 8


@pytest.mark.parametrize(("n_tokens", "n_rows"), [(1, 1), (8, 1), (9, 2), (16, 2), (17, 3), (10**6, 3)])
def test_the_budget_counts_text_tokens(n_tokens: int, n_rows: int) -> None:
    assert rows_of([24], n_tokens, ctx_len=8).n_rows == n_rows


def test_documents_too_short_to_give_context_are_left_out() -> None:
    assert rows_of([3, 4, 16], ctx_len=16).document_names == ("document 2", "document 3")
    assert rows_of([0, 1], ctx_len=2).document_names == ("document 2",)


def test_a_tail_too_short_to_give_context_is_dropped() -> None:
    assert rows_of([16 + 3], ctx_len=16).n_rows == 1
    assert rows_of([16 + 4], ctx_len=16).n_rows == 2


@pytest.mark.parametrize(
    ("tokenizer", "filler"),
    [(NumberTokenizer(), PADDING), (NumberTokenizer(pad=None), 97), (NumberTokenizer(pad=None, eos=None), 0)],
)
def test_what_rows_are_filled_with(tokenizer: NumberTokenizer, filler: int) -> None:
    assert rows_of([5], tokenizer=tokenizer).tokens[0, 5:].tolist() == [filler] * 3


def test_bos_is_refused_where_the_tokenizer_has_none() -> None:
    with pytest.raises(InputError, match="the tokenizer has none"):
        rows_of([5], tokenizer=NumberTokenizer(bos=None), prepend_bos=True)


@pytest.mark.parametrize(
    "options", [{"n_tokens": 0}, {"n_tokens": -5}, {"ctx_len": 0}, {"ctx_len": 1, "prepend_bos": True}]
)
def test_rows_without_room_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="leave no room for text"):
        rows_of([50], **options)


def test_no_documents_no_rows() -> None:
    with pytest.raises(InputError, match="no document of at least 2 tokens"):
        rows_of([])


def test_a_real_tokenizer_and_a_real_text() -> None:
    """Rows decode to the text, without special tokens added and without a warning about length."""
    from tests.support.records import byte_level_tokenizer

    text = "Die Katze saß auf der Matte 🎉, 東京 and so on. " * 20
    tokenizer = byte_level_tokenizer([text], vocab_size=300)
    tokenizer.model_max_length = 16
    rows = build_token_rows([Document("a", text)], tokenizer, ctx_len=32, n_tokens=10**6, prepend_bos=True)
    ids = [int(t) for row, owner in zip(rows.tokens, rows.documents, strict=True) for t in row[owner == 0]]
    assert text.startswith(tokenizer.decode(ids).rstrip("\ufffd"))
    assert len(tokenizer.decode(ids)) > len(text) - 60
    assert set(rows.tokens[:, 0].tolist()) == {tokenizer.bos_token_id}
