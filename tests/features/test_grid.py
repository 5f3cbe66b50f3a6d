"""Windows against cutting every row by hand."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, strategies as st

from sae_auto_interp.errors import InputError
from sae_auto_interp.features.constructors import activations_of, max_activation_pooling_sampler
from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.features.negatives import silent_windows
from sae_auto_interp.types import NO_DOCUMENT, FeatureEntries, FeatureId, TokenRows
from tests.support.records import plain_rows

F = FeatureId("m", 0)


@st.composite
def token_rows(draw: st.DrawFn) -> tuple[Any, Any]:
    """Tokens and documents: rows of one or several, with or without BOS, padded or not, some without any text."""
    n_rows, ctx_len = draw(st.integers(1, 5)), draw(st.integers(2, 14))
    with_bos = draw(st.booleans())
    owner = st.lists(st.sampled_from([0, 0, 0, 1, 2, NO_DOCUMENT]), min_size=ctx_len, max_size=ctx_len)
    block = st.sampled_from([0, 1, 2]).map(lambda d: [d] * ctx_len)
    documents = np.array([draw(block | owner.map(sorted) | owner) for _ in range(n_rows)], dtype=np.int32)
    padding = draw(st.lists(st.integers(0, ctx_len), min_size=n_rows, max_size=n_rows))
    for row, n in enumerate(padding):
        documents[row, ctx_len - n :] = NO_DOCUMENT
    if with_bos:
        documents[:, 0] = NO_DOCUMENT
    tokens = draw(st.lists(st.integers(0, 2), min_size=documents.size, max_size=documents.size))
    return np.array(tokens, dtype=np.int32).reshape(documents.shape), documents


def windows_by_hand(rows: TokenRows, window: int) -> list[tuple[int, int, int]]:
    """(row, start, document or NO_DOCUMENT) of every whole window."""
    first = 1 if all(row[0] == NO_DOCUMENT for row in rows.documents) else 0
    found = []
    for row in range(rows.n_rows):
        for start in range(first, rows.ctx_len - window + 1, window):
            owners = set(rows.documents[row, start : start + window].tolist())
            found.append((row, start, owners.pop() if len(owners) == 1 else NO_DOCUMENT))
    return found


@given(token_rows(), st.integers(1, 6), st.data())
def test_the_grid_is_every_row_cut_by_hand(arrays: tuple[Any, Any], window: int, data: st.DataObject) -> None:
    rows = TokenRows(*arrays, ("a", "b", "c"))
    expected = windows_by_hand(rows, window)
    assume(expected)
    grid = WindowGrid.over(rows, window)
    every = np.arange(len(grid.documents))
    places = np.divmod(grid.starts_of(every), rows.ctx_len)
    assert list(zip(*(column.tolist() for column in (*places, grid.documents)), strict=True)) == expected
    assert grid.usable(np.append(every, -1)).tolist() == [w for w in every if expected[w][2] != NO_DOCUMENT]
    assert grid.n_usable == sum(document != NO_DOCUMENT for *_, document in expected)
    chosen = np.array(data.draw(st.lists(st.integers(0, len(expected) - 1))), dtype=np.int64)
    cut = [rows.tokens[row, start : start + window].tolist() for row, start, _ in (expected[w] for w in chosen)]
    assert grid.tokens_at(grid.starts_of(chosen)).tolist() == cut
    held = [set(row) for row in grid.tokens_at(grid.starts_of(every)).tolist()]
    for token in range(-1, 6):
        assert grid.windows_with(token).tolist() == [
            w for w in every if token in held[w] and token >= 0 and expected[w][2] != NO_DOCUMENT
        ]
    owner = {(row, start + i): w for w, (row, start, _) in enumerate(expected) for i in range(window)}
    everywhere = np.arange(rows.tokens.size)
    assert grid.windows_of(everywhere).tolist() == [
        owner.get(divmod(at, rows.ctx_len), -1) for at in everywhere.tolist()
    ]


@given(token_rows(), st.integers(1, 6), st.data())
def test_active_and_silent_windows_are_those_found_by_hand(
    arrays: tuple[Any, Any], window: int, data: st.DataObject
) -> None:
    rows = TokenRows(*arrays, ("a", "b", "c"))
    expected = windows_by_hand(rows, window)
    assume(expected)
    text = np.flatnonzero(rows.documents != NO_DOCUMENT)
    assume(len(text))
    locations = np.array(sorted(data.draw(st.sets(st.sampled_from(text.tolist())))), dtype=np.int64)
    values = data.draw(st.lists(st.integers(1, 4), min_size=len(locations), max_size=len(locations)))
    dense = np.zeros(rows.tokens.shape, np.float32)
    dense.flat[locations] = values
    entries = FeatureEntries(F, locations, np.array(values, dtype=np.float32))
    grid = WindowGrid.over(rows, window)

    cut = {w: dense[row, start : start + window] for w, (row, start, d) in enumerate(expected) if d != NO_DOCUMENT}
    active = [w for w, activations in cut.items() if activations.any()]
    seen: set[tuple[int, ...]] = set()
    distinct = []
    for w in sorted(active, key=lambda w: (-cut[w].max(), w)):  # the strongest of equal texts is kept
        text_of = tuple(grid.tokens_at(grid.starts_of(np.array([w])))[0].tolist())
        if text_of not in seen:
            seen.add(text_of)
            distinct.append(w)
    found = max_activation_pooling_sampler(entries, grid)
    ids = grid.windows_of(found.starts).tolist()
    assert (found.n_on_grid, found.touched.tolist()) == (len(active), active)
    assert silent_windows(found.touched, grid).tolist() == [w for w in cut if w not in active]
    assert ids == distinct
    assert found.n_near_duplicates == len(active) - len(distinct)
    assert found.maxima.tolist() == [cut[w].max() for w in ids]
    assert found.documents.tolist() == [expected[w][2] for w in ids]
    assert activations_of(entries, found.starts, window).tolist() == [cut[w].tolist() for w in ids]


def test_equal_maxima_come_in_order_of_the_text() -> None:
    grid = WindowGrid.over(plain_rows(200, 8), 4)
    locations = np.arange(0, 1600, 4)
    values = np.where(locations % 3 == 0, 2, 1).astype(np.float32)
    windows = max_activation_pooling_sampler(FeatureEntries(F, locations, values), grid)
    assert (windows.starts // 4).tolist() == sorted(range(400), key=lambda w: (-values[w], w))


def test_a_window_longer_than_a_row_is_refused() -> None:
    WindowGrid.over(plain_rows(2, 8), 8)
    with pytest.raises(InputError, match="a window of 9 tokens does not fit rows of 8 tokens of text"):
        WindowGrid.over(plain_rows(2, 8), 9)
    full = plain_rows(2, 8)
    rows = TokenRows(full.tokens, full.documents.copy(), full.document_names)
    rows.documents[:, 0] = NO_DOCUMENT
    with pytest.raises(InputError, match="a window of 8 tokens does not fit rows of 7 tokens of text"):
        WindowGrid.over(rows, 8)


@given(token_rows(), st.integers(1, 4), st.data())
def test_windows_are_repetitive_where_a_run_is_found_elsewhere(
    arrays: tuple[Any, Any], window: int, data: st.DataObject
) -> None:
    rows = TokenRows(*arrays, ("a", "b", "c"))
    expected = windows_by_hand(rows, window)
    assume(expected)
    length = data.draw(st.integers(1, window))
    grid = WindowGrid.over(rows, window, length)
    flat = rows.tokens.reshape(-1).tolist()
    runs = [tuple(flat[i : i + length]) for i in range(len(flat) - length + 1)]
    starts = grid.starts_of(np.arange(len(grid.documents)))
    for start, is_repetitive, numbers in zip(starts, grid.is_repetitive, grid.runs_at(starts).tolist(), strict=True):
        its = runs[start : start + window - length + 1]
        assert [number >= 0 for number in numbers] == [runs.count(run) > 1 for run in its]
        assert is_repetitive == any(number >= 0 for number in numbers)
