"""Ranges, names and types of a cache's files."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from sae_auto_interp.cache.files import write_text
from sae_auto_interp.cache.layout import (
    MANIFEST,
    STATISTICS,
    clear_cache,
    location_dtype,
    shard_name,
    shard_ranges,
)
from sae_auto_interp.errors import InputError


def test_shards_of_ten_features() -> None:
    assert [shard_name(*pair) for pair in shard_ranges(10, 3)] == [
        "0_2.safetensors",
        "3_5.safetensors",
        "6_9.safetensors",
    ]


@given(st.data(), st.integers(1, 300))
def test_shards_cover_every_feature_once(data: st.DataObject, width: int) -> None:
    ranges = shard_ranges(width, data.draw(st.integers(1, width)))
    assert [index for first, last in ranges for index in range(first, last + 1)] == list(range(width))


@pytest.mark.parametrize("n_splits", [0, -1, 11])
def test_a_number_of_shards_that_does_not_fit_is_refused(n_splits: int) -> None:
    with pytest.raises(InputError, match=f"n_splits={n_splits} does not fit .* give 1 to 10"):
        shard_ranges(10, n_splits)


@pytest.mark.parametrize(
    ("n_positions", "expected"),
    [(1, "uint16"), (65_536, "uint16"), (65_537, "uint32"), (2**32, "uint32"), (2**32 + 1, "uint64")],
)
def test_locations_have_the_narrowest_type_that_holds_the_last_one(n_positions: int, expected: str) -> None:
    dtype = location_dtype(n_positions)
    assert dtype == expected
    assert int(np.array(n_positions - 1).astype(dtype)) == n_positions - 1


def test_text_is_written_as_it_is(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "ä\nb\r\n")
    assert (tmp_path / "x").read_bytes() == "ä\nb\r\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_clearing_takes_away_a_cache_and_nothing_else(tmp_path: Path) -> None:
    old = [MANIFEST, STATISTICS, "0_4.safetensors", "5_9.safetensors", ".5_9.safetensors.partial"]
    others = ["notes.txt", "weights_1.safetensors", "model.safetensors"]
    for name in old + others:
        (tmp_path / name).touch()
    clear_cache(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
    clear_cache(tmp_path / "missing")
