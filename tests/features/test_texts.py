"""Near-duplicates: whatever shares a run of tokens is found, wherever the run stands; nothing else is."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_auto_interp.features import texts
from sae_auto_interp.features.texts import default_run, repeated_runs, token_hashes, without_near_duplicates

TOKENS = st.lists(st.integers(-1, 2), min_size=3, max_size=40)


def as_array(tokens: list[int]) -> texts.Array:
    return np.array(tokens, dtype=np.int32)


@given(TOKENS, st.integers(1, 3))
def test_equal_runs_and_no_others_have_a_number_in_common(tokens: list[int], length: int) -> None:
    found = repeated_runs(as_array(tokens), length).tolist()
    runs = [tuple(tokens[i : i + length]) for i in range(len(tokens) - length + 1)]
    assert len(found) == len(runs)
    for run, number in zip(runs, found, strict=True):
        assert (number >= 0) == (runs.count(run) > 1)
        if number >= 0:
            assert [other == run for other in runs] == [n == number for n in found]


@given(st.lists(st.lists(st.integers(-1, 6), min_size=2, max_size=2), max_size=12))
def test_windows_are_kept_greedily_in_order(runs: list[list[int]]) -> None:
    expected: list[bool] = []
    kept: set[int] = set()
    for its in runs:
        shared = set(its) - {-1}
        expected.append(kept.isdisjoint(shared))
        if expected[-1]:
            kept |= shared
    found = without_near_duplicates(np.array(runs, dtype=np.int32).reshape(len(runs), 2))
    assert found.tolist() == expected


def test_a_chain_loses_every_second_window() -> None:
    chain = np.array(list(pairwise(range(51))), dtype=np.int32)
    assert without_near_duplicates(chain).tolist() == [True, False] * 25


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = np.random.default_rng(0).integers(0, 3, (500, 5)).astype(np.int32)
    hashes = token_hashes(tokens)
    monkeypatch.setattr(texts, "BLOCK_WINDOWS", 7)
    assert token_hashes(tokens).tolist() == hashes.tolist()


def test_windows_that_differ_in_one_token_have_other_hashes() -> None:
    tokens = np.random.default_rng(0).integers(0, 50_000, 32).astype(np.int32)
    changed = np.repeat(tokens[None], 33, axis=0)
    changed[np.arange(32), np.arange(32)] += 1
    assert len(set(token_hashes(changed).tolist())) == 33
    permuted = np.stack([np.random.default_rng(i).permutation(tokens) for i in range(1000)])
    assert len(set(token_hashes(permuted).tolist())) == 1000


@pytest.mark.parametrize(("window", "run"), [(4, 4), (8, 8), (12, 12), (16, 12), (32, 16), (64, 32)])
def test_half_a_window_is_a_near_duplicate_but_no_few_words(window: int, run: int) -> None:
    assert default_run(window) == run
