"""A finished cache is read as it was written; a damaged one is an error that names the file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sae_auto_interp.cache.layout import FORMAT_VERSION, MANIFEST, STATISTICS
from sae_auto_interp.cache.reader import CacheReader, read_manifest
from sae_auto_interp.errors import CacheError, InputError
from tests.support.records import Entry, plain_rows, read_entries, write_cache

ENTRIES: list[Entry] = [(r, p, f, 0.5 + f) for r in range(3) for p in range(4) for f in (0, 4, 9)]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_cache(tmp_path, plain_rows(3, 4), {"m": ENTRIES}, width=10, n_splits=2) / "m"


def change_manifest(directory: Path, **changes: Any) -> None:
    manifest = json.loads((directory / MANIFEST).read_text()) | changes
    (directory / MANIFEST).write_text(json.dumps(manifest))


def test_each_feature_comes_back(directory: Path) -> None:
    reader = CacheReader(directory, verify=True)
    assert sorted(read_entries(reader)) == ENTRIES
    assert (reader.entries(4).locations.dtype, reader.entries(4).activations.dtype) == (np.int64, np.float32)
    for silent in (3, 5, 8):
        assert len(reader.entries(silent).locations) == len(reader.entries(silent).activations) == 0
    assert str(reader.entries(9).feature) == "m:9"


@pytest.mark.parametrize("index", [-1, 10])
def test_a_feature_beyond_the_width_is_an_error(index: int, directory: Path) -> None:
    with pytest.raises(InputError, match=f"m has no feature {index}: its width is 10; give 0 to 9"):
        CacheReader(directory).entries(index)


@pytest.mark.parametrize("n_lost", [1, 40, 10**6])
def test_a_truncated_shard_is_named(n_lost: int, directory: Path) -> None:
    path = directory / "5_9.safetensors"
    path.write_bytes(path.read_bytes()[:-n_lost])
    reader = CacheReader(directory)
    assert len(reader.entries(0).locations) == 12
    with pytest.raises(CacheError, match=r"5_9\.safetensors cannot be read .* delete .*m and cache again"):
        reader.entries(7)
    with pytest.raises(CacheError, match=r"5_9\.safetensors is damaged"):
        CacheReader(directory, verify=True)


def test_a_flipped_bit_is_found_when_asked_for(directory: Path) -> None:
    path = directory / "0_4.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    assert len(read_entries(CacheReader(directory))) == len(ENTRIES)
    with pytest.raises(CacheError, match=r"0_4\.safetensors is damaged: its checksum is not the manifest's"):
        CacheReader(directory, verify=True)


def test_a_lost_shard_is_named(directory: Path) -> None:
    (directory / "5_9.safetensors").unlink()
    with pytest.raises(CacheError, match=r"5_9\.safetensors cannot be read"):
        CacheReader(directory).entries(9)
    with pytest.raises(CacheError, match=r"the cache lost .*5_9\.safetensors"):
        CacheReader(directory, verify=True)


@pytest.mark.parametrize("changed", ["offsets", "locations"])
def test_a_shard_that_is_not_the_manifests_is_named(changed: str, directory: Path) -> None:
    path = directory / "5_9.safetensors"
    arrays = load_file(path)
    if changed == "offsets":
        arrays["offsets"] = arrays["offsets"][:-1]
    else:
        del arrays["locations"]
    save_file(arrays, path)
    with pytest.raises(CacheError, match=r"5_9\.safetensors"):
        CacheReader(directory).entries(9)


def test_no_manifest_means_not_finished(directory: Path) -> None:
    (directory / MANIFEST).unlink()
    with pytest.raises(CacheError, match=rf"m holds no finished cache \(no {MANIFEST}\)"):
        CacheReader(directory)


def test_a_newer_format_is_refused_even_with_other_fields(directory: Path) -> None:
    change_manifest(directory, format_version=FORMAT_VERSION + 1, tomorrow=True)
    with pytest.raises(CacheError, match=rf"{MANIFEST} was written by a newer version \(format {FORMAT_VERSION + 1}\)"):
        read_manifest(directory)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "{}", '{"format_version": null}', '{"format_version": 1}', "\xff"]
)
def test_a_damaged_manifest_is_named(text: str, directory: Path) -> None:
    (directory / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(CacheError, match=rf"{MANIFEST} is damaged or not a cache manifest"):
        read_manifest(directory)


def test_an_unknown_field_is_a_damaged_manifest(directory: Path) -> None:
    change_manifest(directory, surprise=1)
    with pytest.raises(CacheError, match="surprise"):
        read_manifest(directory)


def test_statistics_that_do_not_fit_are_named(directory: Path) -> None:
    path = directory / STATISTICS
    arrays = load_file(path)
    save_file(arrays | {"n_activations": arrays["n_activations"] + 1}, path)
    CacheReader(directory)
    with pytest.raises(CacheError, match=rf"{STATISTICS} is damaged: its counts are not those of 0_4"):
        CacheReader(directory, verify=True)
    save_file(arrays | {"max": arrays["max"][1:]}, path)
    with pytest.raises(CacheError, match=rf"{STATISTICS} is damaged: it is not about 10 features"):
        CacheReader(directory).statistics()
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CacheError, match=STATISTICS):
        CacheReader(directory).statistics()
