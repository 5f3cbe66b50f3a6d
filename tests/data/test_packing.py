"""Packed rows: successive documents, each position knows its own, and nothing of the text is lost or doubled."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from sae_auto_interp.data.rows import build_token_rows
from sae_auto_interp.errors import ConfigError, InputError
from sae_auto_interp.types import NO_DOCUMENT, Document, TokenRows
from tests.data.test_rows import BOS, PADDING, NumberTokenizer, document

EOS = 97
N = NO_DOCUMENT


def packed(lengths: list[int], ctx_len: int = 8, n_tokens: int = 10**9, **options: Any) -> TokenRows:
    tokenizer = options.pop("tokenizer", NumberTokenizer())
    documents = [document(number, length) for number, length in enumerate(lengths, start=1)]
    return build_token_rows(documents, tokenizer, ctx_len=ctx_len, n_tokens=n_tokens, packing=True, **options)


def test_rows_are_filled_with_successive_documents() -> None:
    rows = packed([3, 6, 4])
    assert rows.tokens.tolist() == [
        [1000, 1001, 1002, EOS, 2000, 2001, 2002, 2003],
        [2004, 2005, EOS, 3000, 3001, 3002, 3003, EOS],
    ]
    assert rows.documents.tolist() == [[0, 0, 0, N, 1, 1, 1, 1], [1, 1, N, 2, 2, 2, 2, N]]
    assert rows.document_names == ("document 1", "document 2", "document 3")


def test_rows_that_begin_with_bos_have_one_before_each_document_and_never_two() -> None:
    rows = packed([3, 2, 4], prepend_bos=True)
    assert rows.tokens.tolist() == [
        [BOS, 1000, 1001, 1002, BOS, 2000, 2001, BOS],
        [BOS, 3000, 3001, 3002, 3003, PADDING, PADDING, PADDING],
    ]
    assert rows.documents.tolist() == [[N, 0, 0, 0, N, 1, 1, N], [N, 2, 2, 2, 2, N, N, N]]
    exactly_full = packed([7, 7], prepend_bos=True)
    assert exactly_full.tokens[:, :2].tolist() == [[BOS, 1000], [BOS, 2000]]


def test_the_separator_is_a_setting() -> None:
    assert packed([3, 5], separator="none").tokens.tolist() == [[1000, 1001, 1002, 2000, 2001, 2002, 2003, 2004]]
    assert packed([3, 4], separator="bos").tokens.tolist()[0] == [BOS, 1000, 1001, 1002, BOS, 2000, 2001, 2002]
    with pytest.raises(ConfigError, match=r"data\.separator='tab'; give one of auto, eos, bos, none"):
        packed([3], separator="tab")
    with pytest.raises(InputError, match=r"separated by EOS .* but the tokenizer has none"):
        packed([9], tokenizer=NumberTokenizer(eos=None))


def test_separators_carry_no_document_even_when_special_tokens_are_not_masked() -> None:
    rows = packed([3, 6, 4], mask_special_tokens=False)
    assert (rows.documents[rows.tokens == EOS] == NO_DOCUMENT).all()


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=12),
    st.integers(2, 12),
    st.booleans(),
    st.sampled_from(["auto", "eos", "bos", "none"]),
)
def test_every_token_is_there_once_in_order_under_its_own_document(
    lengths: list[int], ctx_len: int, prepend_bos: bool, separator: Any
) -> None:
    if not sum(lengths):
        with pytest.raises(InputError, match="gave no row"):
            packed(lengths, ctx_len, prepend_bos=prepend_bos, separator=separator)
        return
    try:
        rows = packed(lengths, ctx_len, prepend_bos=prepend_bos, separator=separator)
    except InputError:
        assert sum(lengths) < max(1, (ctx_len - prepend_bos) // 4)
        return
    is_text = rows.documents != NO_DOCUMENT
    text, owners = rows.tokens[is_text].tolist(), rows.documents[is_text].tolist()
    whole = [1000 * n + i for n, length in enumerate(lengths, start=1) for i in range(length)]
    n_left_out = len(whole) - len(text)
    assert text == whole[: len(text)]
    assert n_left_out < max(1, (ctx_len - prepend_bos) // 4), "only a last row that is too short"
    assert [rows.document_names[owner] for owner in owners] == [f"document {token // 1000}" for token in text]
    assert len(set(owners)) == len(rows.document_names)
    if prepend_bos:
        assert (rows.tokens[:, 0] == BOS).all()
    padded = rows.tokens[:-1] == PADDING
    assert not padded.any(), "only the last row has padding"
    assert not (rows.tokens[:, 1:] == BOS).any() or (prepend_bos and separator == "auto") or separator == "bos"


@pytest.mark.parametrize(("n_tokens", "n_rows"), [(1, 1), (7, 1), (8, 2), (13, 2), (14, 3)])
def test_the_budget_counts_text_and_nothing_else(n_tokens: int, n_rows: int) -> None:
    rows = packed([7] * 50, n_tokens=n_tokens)  # with its EOS each document is one row
    assert (rows.n_rows, len(rows.document_names)) == ((n_tokens + 6) // 7, (n_tokens + 6) // 7)
    assert n_rows == rows.n_rows or n_tokens > 13


def test_no_further_document_is_read_than_needed() -> None:
    read: list[int] = []

    def endless() -> Any:
        for number in range(1, 10_000):
            read.append(number)
            yield document(number, 5)

    build_token_rows(endless(), NumberTokenizer(), ctx_len=8, n_tokens=20, packing=True)
    assert len(read) <= 6


def test_short_documents_are_kept_and_empty_ones_are_nobody() -> None:
    rows = build_token_rows(
        [Document("a", "1000"), Document("b", ""), Document("c", "2000 2001")],
        NumberTokenizer(), ctx_len=5, n_tokens=100, packing=True,
    )  # fmt: skip
    assert rows.tokens.tolist() == [[1000, EOS, 2000, 2001, EOS]]
    assert rows.document_names == ("a", "c")


def test_packing_never_repeats_or_reorders_what_unpacked_rows_hold() -> None:
    lengths = [9, 16, 8, 24]
    documents = [document(number, length) for number, length in enumerate(lengths, start=1)]
    unpacked = build_token_rows(documents, NumberTokenizer(), ctx_len=8, n_tokens=10**6)
    rows = packed(lengths)
    kept = unpacked.tokens[unpacked.documents != NO_DOCUMENT]
    assert set(kept.tolist()) <= set(rows.tokens[rows.documents != NO_DOCUMENT].tolist())
    assert np.array_equal(np.sort(kept), kept)
