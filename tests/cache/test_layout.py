"""Ranges, types and files: a name appears only when its file is complete."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from sae_auto_interp.cache.arrays import ArrayWriter, opened, part, whole
from sae_auto_interp.cache.layout import (
    MANIFEST,
    clear_cache,
    location_dtype,
    shard_name,
    shard_ranges,
    write_arrays,
    write_text,
)
from sae_auto_interp.errors import CacheError, InputError


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


@pytest.mark.parametrize("location", ["uint16", "uint32", "uint64"])
@pytest.mark.parametrize("activation", ["float16", "float32"])
@pytest.mark.parametrize("n", [0, 1, 1000])
def test_piecewise_files_are_those_of_safetensors(location: str, activation: str, n: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(n)
    arrays = {
        "activations": rng.normal(size=n).astype(activation),
        "locations": rng.integers(0, 60_000, n).astype(location),
        "offsets": np.arange(7),
    }
    save_file(arrays, tmp_path / "whole.safetensors")
    path = tmp_path / "pieces.safetensors"
    with ArrayWriter(path, {name: (array.dtype, len(array)) for name, array in arrays.items()}) as writer:
        for begin in range(0, n + 1, 300):
            for name in ("locations", "activations"):
                writer.append(name, arrays[name][begin : begin + 300])
            assert not path.exists()
        writer.append("offsets", arrays["offsets"])
    assert path.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert {name: array.tolist() for name, array in load_file(path).items()} == {
        name: array.tolist() for name, array in arrays.items()
    }
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_an_incomplete_file_never_gets_its_name(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"

    def write(n: int, error: Exception | None = None) -> None:
        with ArrayWriter(path, {"a": (np.dtype(np.int64), 4)}) as writer:
            writer.append("a", np.arange(n))
            if error is not None:
                raise error

    with pytest.raises(RuntimeError, match="stopped"):
        write(2, RuntimeError("stopped"))
    with pytest.raises(AssertionError, match="not complete"):
        write(3)
    with (
        pytest.raises(AssertionError, match="a is int64, got float64"),
        ArrayWriter(path, {"a": (np.dtype("i8"), 1)}) as w,
    ):
        w.append("a", np.zeros(1))
    assert not path.exists()
    write(4)
    assert load_file(path)["a"].tolist() == [0, 1, 2, 3]


def test_slices_may_be_empty_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_arrays(path, {"a": np.arange(5, dtype=np.uint32), "none": np.empty(0, np.float16)})
    file = opened(path)
    for begin, end in [(0, 0), (2, 2), (5, 5), (0, 5), (3, 5)]:
        found = part(file, "a", begin, end, path)
        assert found.dtype == np.uint32
        assert found.tolist() == list(range(begin, end))
    assert part(file, "none", 0, 0, path).dtype == np.float16
    assert whole(file, "none", path).shape == (0,)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(CacheError, match=r"x\.safetensors cannot be read"):
        opened(path)
    path.write_bytes(b"not a safetensors file")
    with pytest.raises(CacheError, match=r"x\.safetensors cannot be read .* delete"):
        opened(path)
    write_arrays(path, {"a": np.arange(5)})
    for read in (lambda file: whole(file, "b", path), lambda file: part(file, "b", 0, 1, path)):
        with pytest.raises(CacheError, match=r"x\.safetensors cannot be read"):
            read(opened(path))


def test_text_is_written_as_it_is(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "ä\nb\r\n")
    assert (tmp_path / "x").read_bytes() == "ä\nb\r\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_clearing_takes_away_a_cache_and_nothing_else(tmp_path: Path) -> None:
    old = [MANIFEST, "0_4.safetensors", "5_9.safetensors", ".5_9.safetensors.partial"]
    others = ["notes.txt", "weights_1.safetensors", "model.safetensors"]
    for name in old + others:
        (tmp_path / name).touch()
    clear_cache(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
    clear_cache(tmp_path / "missing")
