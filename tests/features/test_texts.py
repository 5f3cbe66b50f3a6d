"""Equal windows are found exactly, also where their hashes agree by chance."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_auto_interp.features import texts
from sae_auto_interp.features.texts import first_with_same_tokens, token_hashes

ROWS = st.lists(st.tuples(*[st.integers(-1, 2)] * 3), max_size=30)


def as_array(rows: list[tuple[int, ...]]) -> Any:
    return np.array(rows, dtype=np.int32).reshape(len(rows), 3)


@given(ROWS)
def test_the_first_with_the_same_tokens(rows: list[tuple[int, ...]]) -> None:
    assert first_with_same_tokens(as_array(rows)).tolist() == [rows.index(row) for row in rows]


@pytest.mark.parametrize("n_hashes", [1, 2, 3])
@pytest.mark.parametrize("seed", range(20))
def test_hashes_that_agree_by_chance_do_no_harm(n_hashes: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "token_hashes", lambda tokens: token_hashes(tokens) % n_hashes)
    rows = list(map(tuple, np.random.default_rng(seed).integers(0, 3, (40, 3)).tolist()))
    assert first_with_same_tokens(as_array(rows)).tolist() == [rows.index(row) for row in rows]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = np.random.default_rng(0).integers(0, 3, (500, 5)).astype(np.int32)
    whole, hashes = first_with_same_tokens(tokens), token_hashes(tokens)
    monkeypatch.setattr(texts, "BLOCK_WINDOWS", 7)
    assert first_with_same_tokens(tokens).tolist() == whole.tolist()
    assert token_hashes(tokens).tolist() == hashes.tolist()


def test_windows_that_differ_in_one_token_have_other_hashes() -> None:
    tokens = np.random.default_rng(0).integers(0, 50_000, 32).astype(np.int32)
    changed = np.repeat(tokens[None], 33, axis=0)
    changed[np.arange(32), np.arange(32)] += 1
    assert len(set(token_hashes(changed).tolist())) == 33
    permuted = np.stack([np.random.default_rng(i).permutation(tokens) for i in range(1000)])
    assert len(set(token_hashes(permuted).tolist())) == 1000
