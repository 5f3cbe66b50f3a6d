"""Which documents are on which side, which silent windows are drawn, and what the model may look at."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.features.negatives import random_non_activating
from sae_auto_interp.features.pools import training_documents
from sae_auto_interp.features.token_input import attention_mask
from sae_auto_interp.types import NO_DOCUMENT
from tests.support.records import plain_rows

NONE = np.empty(0, dtype=np.int64)


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.8])
def test_one_full_document_does_not_upset_the_shares(fraction: float) -> None:
    """The fullest documents are dealt first, so that the small ones can make up for them."""
    counts = np.array([60, 25, 10, *[1] * 105])
    active = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    sides: set[bool] = set()
    for seed in range(20):
        is_train = training_documents(active, 300, fraction, np.random.default_rng(seed))
        assert is_train.shape == (300,)
        assert abs(is_train[active].sum() - fraction * len(active)) <= max(
            1, 60 - 200 * min(fraction, 1 - fraction) + 1
        )
        assert 0.5 * fraction < is_train[len(counts) :].mean() < 0.5 + 0.5 * fraction
        sides.add(bool(is_train[0]))
    assert sides == {True, False}
    drawn = {training_documents(active, 300, fraction, np.random.default_rng(s)).tobytes() for s in range(20)}
    assert len(drawn) == 20


@pytest.mark.parametrize("n_documents", [1, 2, 3])
def test_few_documents_are_on_both_sides_when_there_are_two(n_documents: int) -> None:
    active = np.repeat(np.arange(n_documents, dtype=np.int32), 10)
    for seed in range(10):
        is_train = training_documents(active, 5, 0.5, np.random.default_rng(seed))
        assert len(set(is_train[:n_documents].tolist())) == min(2, n_documents)


def test_repeated_texts_do_not_use_up_the_draw() -> None:
    """Of 200 silent windows on each side 190 are the same boilerplate: eleven texts there are, and eight are found."""
    rows = plain_rows(400, 4)
    is_train = np.arange(400) < 200
    for first in (0, 200):
        rows.tokens[first : first + 190] = rows.tokens[first]
    grid = WindowGrid.over(rows, 4)
    for seed in range(20):
        pools = random_non_activating(NONE, grid, [is_train, ~is_train], [8, 100], np.random.default_rng(seed))
        assert [len(pool) for pool in pools] == [8, 11]
        for pool, side in zip(pools, (True, False), strict=True):
            assert is_train[pool].tolist() == [side] * len(pool)
            assert pool.tolist() == sorted(set(pool.tolist()))
            assert len({tokens.tobytes() for tokens in grid.tokens_at(pool * 4)}) == len(pool)


def test_a_text_that_is_taken_is_not_drawn_on_either_side() -> None:
    rows = plain_rows(20, 4)
    rows.tokens[10] = rows.tokens[0]
    grid = WindowGrid.over(rows, 4)
    taken = np.array([3 * 4])
    train, test = random_non_activating(
        NONE, grid, [np.arange(20) < 10, np.arange(20) >= 10], [50, 50], np.random.default_rng(0), taken=taken
    )
    assert train.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert test.tolist() == [11, 12, 13, 14, 15, 16, 17, 18, 19]


@given(
    counts=st.lists(st.integers(1, 30) | st.just(1), min_size=2, max_size=60),
    fraction=st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]),
    seed=st.integers(0, 999),
)
def test_no_side_is_further_behind_than_the_fullest_document(counts: list[int], fraction: float, seed: int) -> None:
    """What dealing documents one by one to the side that is behind guarantees."""
    active = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    is_train = training_documents(active, len(counts), fraction, np.random.default_rng(seed))
    surplus = is_train[active].sum() - fraction * len(active)
    assert -fraction * max(counts) - 1e-9 <= surplus <= (1 - fraction) * max(counts) + 1e-9
    assert 0 < is_train.sum() < len(counts)


def test_equally_full_documents_are_on_either_side_by_chance() -> None:
    active = np.repeat(np.arange(12, dtype=np.int32), [3] * 4 + [1] * 8)
    drawn = np.stack([training_documents(active, 12, 0.25, np.random.default_rng(seed)) for seed in range(2000)])
    assert drawn.mean(axis=0) == pytest.approx(np.full(12, 0.25), abs=0.04)


@pytest.mark.parametrize("n_silent", [390, 40, 12])
def test_each_silent_window_is_as_likely_as_any_other(n_silent: int) -> None:
    """Whether nearly all windows are silent, and drawing at random finds them, or hardly any."""
    grid = WindowGrid.over(plain_rows(400, 4), 4)
    is_train = np.arange(400) % 2 == 0
    silent = np.sort(np.random.default_rng(n_silent).permutation(200)[: n_silent // 2] * 2)
    silent = np.sort(np.concatenate([silent, silent + 1]))
    touched = np.setdiff1d(np.arange(400), silent)
    n_drawn = np.zeros(400, dtype=np.int64)
    n_draws = 1500
    for seed in range(n_draws):
        train, test = random_non_activating(touched, grid, [is_train, ~is_train], [3, 2], np.random.default_rng(seed))
        assert (len(set(train.tolist())), len(set(test.tolist()))) == (3, 2)
        assert is_train[train].all()
        assert not is_train[test].any()
        n_drawn[train] += 1
        n_drawn[test] += 1
    assert n_drawn[touched].sum() == 0
    for windows, n in ((silent[silent % 2 == 0], 3), (silent[silent % 2 == 1], 2)):
        probability = n / len(windows)
        expected, spread = n_draws * probability, np.sqrt(n_draws * probability * (1 - probability))
        assert np.abs(n_drawn[windows] - expected).max() < 4.5 * spread


def test_nothing_is_drawn_where_no_window_is_silent() -> None:
    grid = WindowGrid.over(plain_rows(40, 4), 4)
    pools = random_non_activating(
        np.arange(40), grid, [np.arange(40) < 20, np.arange(40) >= 20], [5, 5], np.random.default_rng(0)
    )
    assert [pool.tolist() for pool in pools] == [[], []]


def test_all_but_trailing_padding_is_attended_to() -> None:
    n = NO_DOCUMENT
    documents = np.array([[n, 0, 0, 1, n, n], [n, 0, n, 1, 1, 1], [n] * 6, [2] * 6], dtype=np.int32)
    assert attention_mask(documents).tolist() == [[1, 1, 1, 1, 0, 0], [1] * 6, [0] * 6, [1] * 6]
