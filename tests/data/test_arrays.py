"""Token ids from .npy files: read as they are, only as far as needed, and refused where they cannot be meant."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sae_auto_interp.data.arrays import array_rows
from sae_auto_interp.data.layout import RowLayout
from sae_auto_interp.data.sources import TextSource, rows_from
from sae_auto_interp.errors import InputError
from sae_auto_interp.types import NO_DOCUMENT, TokenRows
from tests.data.test_rows import BOS, PADDING, NumberTokenizer

EOS = 97
N = NO_DOCUMENT


class Tokenizer(NumberTokenizer):
    """Knows the ids 0 to 99."""

    def __len__(self) -> int:
        return 100


def rows_of(path: Path, array: Any, *, ctx_len: int = 4, n_tokens: int = 10**6, **layout: Any) -> TokenRows:
    np.save(path, np.asarray(array))
    return array_rows(path, Tokenizer(), RowLayout(ctx_len=ctx_len, n_tokens=n_tokens, **layout))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ids.npy"


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.uint8, np.int32])
def test_rows_are_taken_as_they_are_each_a_document(path: Path, dtype: Any) -> None:
    ids = np.arange(12, dtype=dtype).reshape(3, 4)
    rows = rows_of(path, ids)
    assert rows.tokens.dtype == np.int32
    assert np.array_equal(rows.tokens, ids)
    assert rows.documents.tolist() == [[i] * 4 for i in range(3)]
    assert rows.document_names == ("ids.npy row 0", "ids.npy row 1", "ids.npy row 2")


def test_special_ids_are_masked_and_stay(path: Path) -> None:
    rows = rows_of(path, [[BOS, 1, 2, EOS], [3, EOS, PADDING, PADDING]])
    assert rows.tokens.tolist() == [[BOS, 1, 2, EOS], [3, EOS, PADDING, PADDING]]
    assert rows.documents.tolist() == [[N, 0, 0, N], [1, N, N, N]]


def test_rows_must_begin_with_bos_where_the_autoencoders_were_trained_so(path: Path) -> None:
    rows = rows_of(path, [[BOS, 1, 2, 3]], prepend_bos=True)
    assert rows.tokens.tolist() == [[BOS, 1, 2, 3]]
    with pytest.raises(InputError, match=r"row 1: begins with the id 4, not with the BOS 99 .*prepend_bos: false"):
        rows_of(path, [[BOS, 1, 2, 3], [4, 5, 6, 7]], prepend_bos=True)


def test_a_stream_is_cut_into_rows_and_its_documents_end_at_eos(path: Path) -> None:
    stream = [1, 2, 3, EOS, 4, 5, 6, 7, 8, 9, EOS, BOS, 10, 11]
    rows = rows_of(path, stream)
    assert rows.tokens.tolist() == [[1, 2, 3, EOS], [4, 5, 6, 7], [8, 9, EOS, BOS], [10, 11, PADDING, PADDING]]
    assert rows.documents.tolist() == [[0, 0, 0, N], [1, 1, 1, 1], [1, 1, N, N], [2, 2, N, N]]
    assert len(rows.document_names) == 3
    with_bos = rows_of(path, stream, prepend_bos=True)
    assert with_bos.tokens[:, 0].tolist() == [BOS] * 5
    assert with_bos.tokens[:, 1:].ravel()[: len(stream)].tolist() == stream


def test_borders_of_a_stream_are_masked_even_when_special_tokens_are_not(path: Path) -> None:
    rows = rows_of(path, [1, 2, EOS, 3], mask_special_tokens=False)
    assert rows.documents.tolist() == [[0, 0, N, 1]]


def test_in_a_stream_without_borders_each_row_is_a_document(path: Path) -> None:
    rows = rows_of(path, np.arange(12))
    assert rows.documents.tolist() == [[0] * 4, [1] * 4, [2] * 4]
    assert rows.document_names == ("ids.npy row 0", "ids.npy row 1", "ids.npy row 2")


@pytest.mark.parametrize("border", [BOS, EOS])
def test_a_stream_that_is_cut_within_its_first_document_has_one(path: Path, border: int) -> None:
    """Rows of one text on both sides of a split would be no test."""
    text = np.arange(10, 74)
    for stream in ([border, *text, border, *text], [*text, border, *text]):
        rows = rows_of(path, stream, ctx_len=16, n_tokens=40)
        assert rows.n_rows == 3
        assert set(rows.documents.ravel().tolist()) <= {0, N}
        assert rows.document_names == ("ids.npy document 0",)


def test_only_what_is_needed_is_read(path: Path) -> None:
    ids = np.tile(np.arange(4), (1000, 1))
    ids[3:] = 10**6  # beyond the vocabulary: would be refused if it were looked at
    assert rows_of(path, ids, n_tokens=9).n_rows == 3
    assert rows_of(path, ids.ravel(), n_tokens=12).n_rows == 3
    with pytest.raises(InputError, match=r"row 3: holds the id 1000000, and the tokenizer knows 0 to 99"):
        rows_of(path, ids, n_tokens=13)
    with pytest.raises(InputError, match="holds the id -1"):
        rows_of(path, [[1, -1, 2, 3]])


def test_rows_can_be_skipped_counted_and_shuffled(path: Path) -> None:
    np.save(path, np.arange(80).reshape(20, 4))
    layout = RowLayout(ctx_len=4, n_tokens=10**6)

    def firsts(**settings: Any) -> list[int]:
        rows = rows_from(TextSource(source=str(path), **settings), layout, Tokenizer())
        assert [name.split()[-1] for name in rows.document_names] == [str(i // 4) for i in rows.tokens[:, 0]]
        return rows.tokens[:, 0].tolist()

    assert firsts(skip_documents=3, max_documents=2) == [12, 16]
    shuffled = firsts(shuffle_buffer=50, seed=1)
    assert sorted(shuffled) == firsts() != shuffled
    assert shuffled == firsts(shuffle_buffer=50, seed=1) != firsts(shuffle_buffer=50, seed=2)
    np.save(path, np.arange(80))
    with pytest.raises(InputError, match="one stream of tokens, of which no documents can be skipped"):
        firsts(skip_documents=1)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([["a"]]), r"holds <U1 \[1, 1\]; give token ids"),
        (np.ones((2, 4)), r"holds float64 \[2, 4\]"),
        (np.ones((2, 2, 4), int), r"holds int64 \[2, 2, 4\]"),
        (np.array(3), r"holds int64 \[\]"),
        (np.empty((0, 4), int), r"is empty: \[0, 4\]"),
        (np.ones((2, 5), int), r"has rows of 5 tokens; set data\.ctx_len to that, not 4"),
        (np.full((2, 4), EOS), "none of the rows asked for, of .* holds a text token"),
    ],
)
def test_what_is_no_array_of_ids_is_refused(path: Path, array: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rows_of(path, array)


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_objects_are_refused_and_run_nothing(path: Path, tmp_path: Path) -> None:
    np.save(path, np.array([Malicious(tmp_path / "ran")], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"ids\.npy cannot be read as an array of token ids"):
        array_rows(path, Tokenizer(), RowLayout(ctx_len=4, n_tokens=1))
    assert not (tmp_path / "ran").exists()


def test_damaged_and_missing_files_are_named(path: Path) -> None:
    layout = RowLayout(ctx_len=4, n_tokens=1)
    with pytest.raises(InputError, match=r"there is no file .*ids\.npy"):
        array_rows(path, Tokenizer(), layout)
    np.save(path, np.ones((50, 4), int))
    for content in (path.read_bytes()[:-100], b"\x93NUMPY", b"", b"nothing of the kind"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"ids\.npy cannot be read as an array of token ids"):
            array_rows(path, Tokenizer(), layout)
    np.savez(path.with_suffix(".npz"), a=np.ones(3))
    path.with_suffix(".npz").rename(path)
    with pytest.raises(InputError, match="holds several arrays"):
        array_rows(path, Tokenizer(), layout)


def test_settings_of_text_do_not_apply_to_ids(path: Path) -> None:
    np.save(path, np.ones((2, 4), int))
    with pytest.raises(InputError, match="holds token ids, to which"):
        rows_from(TextSource(source=str(path), messages_field="m"), RowLayout(ctx_len=4, n_tokens=1), Tokenizer())
