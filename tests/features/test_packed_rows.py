"""Rows that hold several documents, separators and special tokens: everything behind them goes by document."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sae_auto_interp.data.rows import build_token_rows
from sae_auto_interp.features import FeatureCache, FeatureConfig, FeatureDataset, FeatureLoader
from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.features.token_input import attention_mask
from sae_auto_interp.types import NO_DOCUMENT, Document, FeatureRecord, TokenRows
from tests.support.records import (
    VOCAB,
    dense_entries,
    read_entries,
    tiny_coders,
    write_cache,
)

EOS, SPECIAL = 0, 7
WINDOW = 4


class Tokenizer:
    """Each word is a number, and that number is its token; 0 is BOS, EOS and padding."""

    bos_token_id = eos_token_id = pad_token_id = EOS
    all_special_ids = (EOS, SPECIAL)

    def encode(self, text: str, **options: Any) -> list[int]:
        return [int(word) for word in text.split()]


def packed_rows(n_documents: int, *, seed: int = 0, ctx_len: int = 16, **layout: Any) -> TokenRows:
    """Documents of 1 to 40 random tokens, one in fifty special."""
    rng = np.random.default_rng(seed)
    documents: list[Document] = []
    for number in range(n_documents):
        ids = rng.integers(1, VOCAB, rng.integers(1, 41))
        ids[rng.random(len(ids)) < 0.02] = SPECIAL
        documents.append(Document(f"d{number}", " ".join(map(str, ids))))
    return build_token_rows(documents, Tokenizer(), ctx_len=ctx_len, n_tokens=10**6, packing=True, **layout)


@pytest.mark.parametrize("layout", [{}, {"prepend_bos": True}, {"separator": "none"}])
def test_the_model_reads_all_of_a_packed_row_and_only_text_is_cached(
    world: tuple[Any, dict[str, Any]], layout: dict[str, Any], tmp_path: Path
) -> None:
    rows = packed_rows(14, **layout)
    assert any(len(set(row[row != NO_DOCUMENT])) > 1 for row in rows.documents)
    cache = FeatureCache(*world, batch_size=3)
    cache.run(tokens=rows)
    cache.save_splits(2, tmp_path)
    expected = dense_entries(world[0]._module, tiny_coders(), rows)  # a forward pass over the whole row, unmasked
    for path, reader in FeatureDataset(tmp_path).readers.items():
        found = {entry[:3]: entry[3] for entry in read_entries(reader)}
        wanted = {entry[:3]: entry[3] for entry in expected[path]}
        assert found.keys() == wanted.keys()
        assert np.allclose([found[key] for key in wanted], list(wanted.values()), rtol=2e-3, atol=2e-3)


def test_the_mask_keeps_what_is_masked_between_texts() -> None:
    documents = np.array([[-1, 0, 0, -1, 1, -1, -1], [2, -1, -1, 3, 3, 3, -1]], np.int32)
    assert attention_mask(documents).tolist() == [[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 0]]


@pytest.mark.parametrize("windows", ["grid", "centred"])
def test_examples_never_mix_documents_and_no_document_is_on_both_sides(windows: Any, tmp_path: Path) -> None:
    rows = packed_rows(700, ctx_len=24)
    rng = np.random.default_rng(1)
    text = np.argwhere(rows.documents != NO_DOCUMENT)
    entries = [
        (int(r), int(p), f, float(rng.uniform(0.5, 9)))
        for f, share in enumerate((0.05, 0.02, 0.1))
        for r, p in text[rng.random(len(text)) < share]
    ]
    write_cache(tmp_path, rows, {"h.0": entries}, width=3, n_splits=1)
    cfg = FeatureConfig(window=WINDOW, windows=windows, min_examples=20)
    records = list(FeatureLoader(rows, FeatureDataset(tmp_path, cfg)))
    assert len(records) == 3
    for record in records:
        check_record(record, rows)
        assert record.stats.n_tokens == rows.n_text_tokens < rows.tokens.size


def check_record(record: FeatureRecord, rows: TokenRows) -> None:
    silent = record.non_activating
    for example in (*record.train, *record.test, *silent.explain, *silent.test):
        place = slice(example.start, example.start + WINDOW)
        assert set(rows.documents[example.row, place].tolist()) == {example.document}
        assert not np.isin(example.tokens, (EOS, SPECIAL)).any()
        assert np.array_equal(example.tokens, rows.tokens[example.row, place])
    shown = {example.document for example in (*record.train, *silent.explain)}
    scored = {example.document for example in (*record.test, *silent.test)}
    assert shown
    assert scored
    assert not shown & scored
    assert record.train
    assert record.test


def test_documents_that_go_on_in_the_next_row_are_one_document() -> None:
    rows = packed_rows(60)
    last, first = rows.documents[:-1, -1], rows.documents[1:, 0]
    assert ((last == first) & (last != NO_DOCUMENT)).any()
    owners = rows.documents[rows.documents != NO_DOCUMENT]
    assert (np.diff(owners) >= 0).all()


def test_the_grid_of_packed_rows_begins_behind_bos_and_counts_by_document() -> None:
    rows = packed_rows(60, prepend_bos=True, ctx_len=17)
    grid = WindowGrid.over(rows, WINDOW)
    assert grid.first_position == 1
    for window in np.flatnonzero(grid.documents != NO_DOCUMENT):
        row, start = divmod(int(grid.starts_of(np.array([window]))[0]), rows.ctx_len)
        assert (rows.documents[row, start : start + WINDOW] == grid.documents[window]).all()
