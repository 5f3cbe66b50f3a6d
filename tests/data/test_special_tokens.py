"""Special tokens: the model reads them where they are, and they belong to no document."""

from typing import Any

import numpy as np
import pytest

from sae_auto_interp.data.layout import special_ids, tokenizer_sha256
from sae_auto_interp.data.rows import build_token_rows
from sae_auto_interp.types import NO_DOCUMENT, Document
from tests.support.records import byte_level_tokenizer, chat_tokenizer

TEXT = "a few words of text, "


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return chat_tokenizer([TEXT * 20])


def rows_of(text: str, tokenizer: Any, **options: Any) -> Any:
    return build_token_rows([Document("a", text)], tokenizer, ctx_len=32, n_tokens=10**6, **options)


def test_special_tokens_in_the_text_stay_where_they_are_and_are_masked(tokenizer: Any) -> None:
    text = f"{TEXT}<|end|>{TEXT}<|user|>{TEXT * 3}"
    ids = tokenizer.encode(text, add_special_tokens=False)
    rows = rows_of(text, tokenizer)
    n = min(len(ids), 32)
    assert rows.tokens[0, :n].tolist() == ids[:n], "nothing is deleted"
    is_special = np.isin(rows.tokens, [tokenizer.convert_tokens_to_ids(t) for t in ("<|end|>", "<|user|>")])
    assert is_special[0, :n].sum() == 2
    assert np.array_equal(rows.documents == NO_DOCUMENT, is_special)


def test_masking_is_a_setting(tokenizer: Any) -> None:
    rows = rows_of(f"{TEXT}<|end|>{TEXT}", tokenizer, mask_special_tokens=False)
    n = len(tokenizer.encode(f"{TEXT}<|end|>{TEXT}", add_special_tokens=False))
    assert (rows.documents[0, :n] == 0).all()


def test_added_tokens_that_are_marked_special_count_though_no_list_of_the_tokenizer_names_them(tokenizer: Any) -> None:
    user = tokenizer.convert_tokens_to_ids("<|user|>")
    assert user not in tokenizer.all_special_ids
    assert user in special_ids(tokenizer)
    assert set(tokenizer.all_special_ids) <= set(special_ids(tokenizer).tolist())
    word = tokenizer.encode(" words", add_special_tokens=False)[0]
    assert word not in special_ids(tokenizer)


def test_the_budget_counts_what_is_not_masked(tokenizer: Any) -> None:
    text = "<|end|>".join([" words"] * 500)
    rows = build_token_rows([Document("a", text)], tokenizer, ctx_len=32, n_tokens=100)
    assert 100 <= rows.n_text_tokens < 100 + 32
    assert rows.n_rows > 100 // 32 + 1


def test_a_text_of_special_tokens_alone_gives_no_row(tokenizer: Any) -> None:
    documents = [Document("specials", "<|end|>" * 40), Document("text", TEXT * 3)]
    rows = build_token_rows(documents, tokenizer, ctx_len=32, n_tokens=10**6)
    assert rows.documents.max() == len(rows.document_names) - 1
    assert {rows.document_names[i] for i in np.unique(rows.documents) if i >= 0} == {"text"}


def test_a_bos_that_the_text_brings_is_not_doubled(tokenizer: Any) -> None:
    bos = tokenizer.bos_token_id
    own, added = (
        rows_of(f"<|end|>{TEXT * 2}", tokenizer, prepend_bos=True),
        rows_of(TEXT * 2, tokenizer, prepend_bos=True),
    )
    assert np.array_equal(own.tokens, added.tokens)
    assert own.tokens[0, 0] == bos != own.tokens[0, 1]


def test_a_tokenizer_is_known_by_what_it_does() -> None:
    one, same, other = (byte_level_tokenizer([text]) for text in (TEXT, TEXT, "completely different words"))
    assert tokenizer_sha256(one) == tokenizer_sha256(same) != tokenizer_sha256(other)
    same.chat_template = "{{ messages }}"
    assert tokenizer_sha256(one) != tokenizer_sha256(same)
