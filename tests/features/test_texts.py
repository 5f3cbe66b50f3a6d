"""Near-duplicates: whatever shares a run of tokens is found, wherever the run stands; nothing else is."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from sae_auto_interp.features import near_duplicates
from sae_auto_interp.features.near_duplicates import default_run, repeated_runs, run_hashes, without_near_duplicates

TOKENS = st.lists(st.integers(-1, 2), min_size=3, max_size=40)


def as_array(tokens: list[int]) -> near_duplicates.Array:
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
    tokens = np.random.default_rng(0).integers(0, 3, 500).astype(np.int32)
    hashes = run_hashes(tokens, 5)
    monkeypatch.setattr(near_duplicates, "BLOCK_RUNS", 7)
    assert run_hashes(tokens, 5).tolist() == hashes.tolist()


def test_the_hash_of_a_run_does_not_depend_on_its_place() -> None:
    run = np.random.default_rng(0).integers(-1, 50_000, 16).astype(np.int32)
    tokens = np.concatenate([run, run[:3], np.tile(run, 3 * near_duplicates.BLOCK_RUNS // 16)])
    hashes = run_hashes(tokens, 16)
    begins = np.r_[0, np.arange(19, len(hashes), 16)]
    assert len(set(hashes[begins].tolist())) == 1
    assert len(set(hashes.tolist())) == 16 + 15  # its rotations, and those that the three tokens are in


def test_runs_that_differ_have_other_hashes() -> None:
    tokens = np.random.default_rng(0).integers(0, 50_000, 32).astype(np.int32)
    changed = np.repeat(tokens[None], 33, axis=0)
    changed[np.arange(32), np.arange(32)] += 1
    permuted = np.stack([np.random.default_rng(i).permutation(tokens) for i in range(1000)])
    few = np.array([[(n >> bit) & 1 for bit in range(16)] for n in range(1 << 16)], dtype=np.int32)
    for different in (changed, permuted, few):
        length = different.shape[1]
        hashes = run_hashes(different.reshape(-1), length)[::length]
        assert len(set(hashes.tolist())) == len(different)


@pytest.mark.parametrize(("window", "run"), [(4, 4), (8, 8), (12, 12), (16, 12), (32, 16), (64, 32)])
def test_half_a_window_is_a_near_duplicate_but_no_few_words(window: int, run: int) -> None:
    assert default_run(window) == run
