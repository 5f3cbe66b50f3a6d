"""A file that is made from a cache counts only for that cache, and only as it was written."""

import logging
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sae_auto_interp.cache.derived import DIGEST, read_derived, write_derived
from sae_auto_interp.types import Array

ARRAYS: dict[str, Array] = {"counts": np.arange(7), "values": np.arange(6.0).reshape(2, 3), "none": np.empty(0)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_derived(tmp_path / "new" / "file.safetensors", ARRAYS, "cache a")
    return tmp_path / "new" / "file.safetensors"


def test_it_comes_back(path: Path) -> None:
    found = read_derived(path, "cache a")
    assert found is not None
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
    assert read_derived(path.with_name("other"), "cache a") is None


def test_that_of_another_cache_is_not_read(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_derived(path, "cache b") is None
    assert "is made again: it is damaged, or of another cache" in caplog.text


def test_no_flipped_bit_is_read(path: Path) -> None:
    content = path.read_bytes()
    logging.disable()
    try:
        for bit in range(0, 8 * len(content), 5):
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << bit % 8
            path.write_bytes(changed)
            found = read_derived(path, "cache a")
            assert found is None or all(np.array_equal(found[name], ARRAYS[name]) for name in ARRAYS), bit
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("change", ["swapped", "without", "renamed", "cut", "empty"])
def test_whole_changes_are_seen(change: str, path: Path) -> None:
    arrays = load_file(path)
    if change == "swapped":
        arrays["counts"] = arrays["counts"][::-1].copy()
    elif change == "renamed":
        arrays["more"] = arrays.pop("values")
    elif change == "without":
        del arrays[DIGEST]
    if change in ("cut", "empty"):
        path.write_bytes(path.read_bytes()[: 40 if change == "cut" else 0])
    else:
        save_file(arrays, path)
    assert read_derived(path, "cache a") is None
