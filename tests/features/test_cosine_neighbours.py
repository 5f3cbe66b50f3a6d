"""Cosine neighbours against dense cosines and against whole numbers, whatever the blocks."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from sae_auto_interp.errors import InputError
from sae_auto_interp.features.neighbours.cosine import cosine_neighbours
from tests.support.nearest import lists, random_vectors, ranked


def test_cosines_are_those_of_a_dense_product() -> None:
    vectors = random_vectors(300, 24)
    indices, cosines = cosine_neighbours(vectors, 12)
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    dense = unit @ unit.T
    np.fill_diagonal(dense, -np.inf)
    assert np.array_equal(indices, np.argsort(-dense, axis=1)[:, :12])
    assert np.allclose(cosines, np.take_along_axis(dense, indices, axis=1), atol=1e-7)


vector_tables = st.integers(1, 30).flatmap(
    lambda width: st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=width, max_size=width)
)


@given(vector_tables, st.integers(1, 6))
@settings(max_examples=60)
def test_any_block_size_gives_the_same_bytes_and_the_exact_order(table: list[list[int]], n: int) -> None:
    """Small whole numbers: rows of zeros, equal rows and ties everywhere. The order is that of whole numbers."""
    vectors = np.array(table, dtype=np.float32)
    found = cosine_neighbours(vectors, n, block_rows=len(vectors))
    for block_rows in (1, 7):
        other = cosine_neighbours(vectors, n, block_rows=block_rows)
        assert [array.tobytes() for array in other] == [array.tobytes() for array in found]
    for feature, neighbours in enumerate(lists(found)):
        assert [index for index, _ in neighbours] == [
            index for index, _ in ranked(whole_number_keys(table, feature), n)
        ]
        for index, value in neighbours:
            assert value == pytest.approx(cosine(table[feature], table[index]), abs=1e-6)


def whole_number_keys(table: list[list[int]], feature: int) -> dict[int, int]:
    """Products, in Python's whole numbers, of unit rows in steps of 2^-26, with every other row that is not zero."""
    steps = [
        [round(x / math.sqrt(sum(y * y for y in row)) * 2**26) for x in row] if any(row) else None for row in table
    ]
    own = steps[feature]
    if own is None:
        return {}
    return {
        index: sum(a * b for a, b in zip(own, row, strict=True))
        for index, row in enumerate(steps)
        if row is not None and index != feature
    }


def cosine(a: list[int], b: list[int]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def test_chosen_features_have_the_neighbours_that_they_have_among_all() -> None:
    vectors = random_vectors(200, 16)
    vectors[[5, 17, 90]] = 0
    chosen = [150, 5, 3, 199, 17, 16]
    everything, some = cosine_neighbours(vectors, 9), cosine_neighbours(vectors, 9, features=chosen, block_rows=7)
    for all_of_them, of_chosen in zip(everything, some, strict=True):
        assert of_chosen.tobytes() == all_of_them[chosen].tobytes()


def test_equal_rows_are_neighbours_and_no_row_is_its_own() -> None:
    vectors = random_vectors(40, 8)
    vectors[[3, 10, 30]] = vectors[20]
    indices, cosines = cosine_neighbours(vectors, 5, block_rows=7)
    assert indices[20, :3].tolist() == [3, 10, 30]
    assert indices[10, :3].tolist() == [3, 20, 30]
    assert cosines[20, :3].tolist() == [1, 1, 1]
    assert not (indices == np.arange(40)[:, None]).any()


def test_a_width_of_equal_rows_takes_the_lowest_indices() -> None:
    indices, _ = cosine_neighbours(np.ones((500, 4), dtype=np.float32), 3, block_rows=64)
    assert indices[0].tolist() == [1, 2, 3]
    assert indices[499].tolist() == [0, 1, 2]


def test_dead_rows_have_no_neighbours_and_are_nobodys() -> None:
    vectors = random_vectors(30, 6)
    vectors[[0, 7, 29]] = 0
    indices, cosines = cosine_neighbours(vectors, 40)
    assert (indices[[0, 7, 29]] == -1).all()
    assert np.isnan(cosines[[0, 7, 29]]).all()
    assert not np.isin([0, 7, 29], indices).any()
    assert ((indices >= 0).sum(axis=1)[[1, 2, 28]] == 26).all(), "the other 26 that are alive"
    assert np.array_equal(np.isnan(cosines), indices == -1)


def test_all_dead_and_none_chosen() -> None:
    indices, cosines = cosine_neighbours(np.zeros((3, 2), dtype=np.float32), 2)
    assert (indices == -1).all()
    assert np.isnan(cosines).all()
    assert cosine_neighbours(random_vectors(3, 2), 2, features=[])[0].shape == (0, 2)


def test_lengths_do_not_matter_however_large_or_small() -> None:
    vectors = random_vectors(64, 16)
    scales = np.float32(2) ** np.random.default_rng(1).integers(-60, 60, 64).astype(np.float32)
    for one, other in zip(cosine_neighbours(vectors, 5), cosine_neighbours(vectors * scales[:, None], 5), strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_refused(value: float) -> None:
    vectors = random_vectors(9, 4)
    vectors[6, 2] = value
    with pytest.raises(InputError, match="row 6"):
        cosine_neighbours(vectors, 2)


def test_memory_is_that_of_tiles_and_not_of_the_width_squared() -> None:
    vectors = random_vectors(8192, 8)
    tracemalloc.start()
    cosine_neighbours(vectors, 10, block_rows=512)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 << 20, "the whole matrix has 512 MiB"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"n": 1, "features": [9]}, "no feature 9: the width is 9"),
        ({"n": 1, "features": [-1]}, "no feature -1"),
        ({"n": 1, "features": [2, 2]}, "feature 2 is asked for more than once"),
        ({"n": 1, "block_rows": 0}, "block_rows=0"),
    ],
)
def test_wrong_questions_about_directions(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        cosine_neighbours(random_vectors(9, 4), **arguments)
