"""A finished cache is read as it was written; a damaged one is an error that names the file."""

import hashlib
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sae_auto_interp.cache.arrays import ArrayWriter
from sae_auto_interp.cache.files import sha256_of
from sae_auto_interp.cache.layout import FORMAT_VERSION, MANIFEST, STATISTICS
from sae_auto_interp.cache.opening import open_caches
from sae_auto_interp.cache.reader import CacheReader, read_manifest
from sae_auto_interp.errors import CacheError, InputError
from tests.support.records import Entry, plain_rows, read_entries, write_cache

ENTRIES: list[Entry] = [(r, p, f, 0.5 + f) for r in range(3) for p in range(4) for f in (0, 4, 9)]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_cache(tmp_path, plain_rows(3, 4), {"m": ENTRIES}, width=10, n_splits=2) / "m"


def change_manifest(directory: Path, **changes: Any) -> None:
    """As another program would: with the checksum of what it then says."""
    fields = json.loads((directory / MANIFEST).read_text()) | changes
    del fields["sha256"]
    checksum = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    (directory / MANIFEST).write_text(json.dumps(fields | {"sha256": checksum}))


def to_format_1(directory: Path) -> None:
    """What an older version wrote: four statistics, and a manifest that says less."""
    fields = json.loads((directory / MANIFEST).read_text()) | {"format_version": 1}
    for name in ("sha256", "configuration", "rows", "statistics_sha256"):
        del fields[name]
    (directory / MANIFEST).write_text(json.dumps(fields))
    names = ("n_activations", "max", "sum", "sum_of_squares")
    save_file({name: load_file(directory / STATISTICS)[name] for name in names}, directory / STATISTICS)


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
    content[-50] ^= 1
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
    "text",
    ["", "{", "[]", "3", "{}", '{"format_version": null}', '{"format_version": 1}', '{"format_version": 2}', "\xff"],
)
def test_a_damaged_manifest_is_named(text: str, directory: Path) -> None:
    (directory / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(CacheError, match=rf"{MANIFEST} is damaged or not a cache manifest"):
        read_manifest(directory)


def test_an_unknown_field_is_a_damaged_manifest(directory: Path) -> None:
    change_manifest(directory, surprise=1)
    with pytest.raises(CacheError, match="surprise"):
        read_manifest(directory)


def test_every_flipped_bit_of_a_manifest_is_found(directory: Path) -> None:
    content = (directory / MANIFEST).read_bytes()
    manifest = read_manifest(directory)
    for bit in range(0, 8 * len(content), 37):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        (directory / MANIFEST).write_bytes(damaged)
        with suppress(CacheError):
            assert read_manifest(directory) == manifest, f"bit {bit} of {len(content)} bytes"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 11}, "its shards hold 10 of 11 features"),
        ({"activation_dtype": "int4"}, "activation_dtype='int4'"),
        ({"location_dtype": "noise"}, "noise"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_named(changes: dict[str, Any], message: str, directory: Path) -> None:
    change_manifest(directory, **changes)
    with pytest.raises(CacheError, match=rf"{MANIFEST} is damaged .*{message}"):
        read_manifest(directory)


@pytest.mark.parametrize("changes", [{"activation_dtype": "bfloat16"}, {"location_dtype": "uint32"}])
def test_a_shard_of_another_type_is_named(changes: dict[str, Any], directory: Path) -> None:
    change_manifest(directory, **changes)
    with pytest.raises(CacheError, match=r"0_4\.safetensors cannot be read .*: it is damaged or foreign"):
        CacheReader(directory).entries(0)


def test_locations_beyond_the_rows_are_named(directory: Path) -> None:
    change_manifest(directory, n_rows=2)
    with pytest.raises(CacheError, match=r"0_4\.safetensors is damaged: feature 4 has a location beyond the 2 rows"):
        CacheReader(directory).entries(4)


def test_offsets_that_go_back_are_named(directory: Path) -> None:
    path = directory / "0_4.safetensors"
    arrays = load_file(path)
    arrays["offsets"][1] = 50
    save_file(arrays, path)
    with pytest.raises(CacheError, match=r"0_4\.safetensors is damaged: its offsets are not those of the manifest"):
        CacheReader(directory).entries(0)


def test_statistics_that_do_not_fit_are_named(directory: Path) -> None:
    path = directory / STATISTICS
    arrays = load_file(path)
    for name, array in arrays.items():
        save_file(arrays | {name: array[1:]}, path)
        with pytest.raises(
            CacheError, match=rf"{STATISTICS} cannot be read .*'{name}' is .*: it is damaged or foreign"
        ):
            CacheReader(directory).statistics()
        save_file({other: array for other, array in arrays.items() if other != name}, path)
        with pytest.raises(CacheError, match=rf"{STATISTICS} cannot be read .*it has no array '{name}'"):
            CacheReader(directory).statistics()
    save_file(arrays | {"sum": arrays["sum"] + 1}, path)
    with pytest.raises(CacheError, match=rf"{STATISTICS} is damaged: its checksum is not the manifest's"):
        CacheReader(directory, verify=True)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CacheError, match=STATISTICS):
        CacheReader(directory).statistics()
    path.unlink()
    with pytest.raises(CacheError, match=rf"the cache lost .*{STATISTICS}"):
        CacheReader(directory, verify=True)


def test_counts_that_are_not_those_of_the_shards_are_named(directory: Path) -> None:
    path = directory / STATISTICS
    arrays = load_file(path)
    save_file(arrays | {"n_activations": arrays["n_activations"] + 1}, path)
    change_manifest(directory, statistics_sha256=sha256_of(path))
    with pytest.raises(CacheError, match=rf"{STATISTICS} is damaged: its counts are not those of 0_4"):
        CacheReader(directory, verify=True)


def test_a_cache_of_format_1_opens_and_its_missing_statistics_are_computed(directory: Path) -> None:
    expected = CacheReader(directory)
    statistics, totals = expected.statistics(), expected.position_totals()
    to_format_1(directory)
    reader = CacheReader(directory, verify=True)
    assert (reader.manifest.format_version, reader.manifest.configuration) == (1, "")
    assert sorted(read_entries(reader)) == ENTRIES
    assert {name: array.tolist() for name, array in reader.statistics().items()} == {
        name: array.tolist() for name, array in statistics.items()
    }
    assert reader.position_totals().tolist() == totals.tolist()


def test_one_feature_is_one_slice_however_large_the_cache_is(tmp_path: Path) -> None:
    """Nothing of a shard is read but the header, the offsets and the pages of the slice."""
    n = 3_000_000
    path = tmp_path / "m" / "0_99.safetensors"
    rows = plain_rows(3, 4)
    directory = write_cache(tmp_path, rows, {"m": []}, width=100, n_splits=1) / "m"
    each = n // 100
    with ArrayWriter(path, {"offsets": ("I64", (101,)), "locations": ("U32", (n,)), "activations": ("F32", (n,))}) as w:
        w.append("offsets", np.arange(0, n + 1, each))
        w.append("locations", np.tile(np.arange(each, dtype=np.uint32), 100))
        w.append("activations", np.repeat(np.arange(100, dtype=np.float32), each))
    shards = [{"file": path.name, "first": 0, "last": 99, "n_activations": n, "sha256": ""}]
    change_manifest(directory, shards=shards, n_rows=each, ctx_len=1, location_dtype="uint32")
    reader = CacheReader(directory)
    assert len(reader.entries(0).locations) == each
    times: list[float] = []
    for index in range(100):
        began = time.perf_counter()
        entries = reader.entries(index)
        times.append(time.perf_counter() - began)
        assert entries.activations[0] == entries.activations[-1] == index
    assert np.median(times) < 0.005


def renamed_shard(directory: Path, file: str) -> None:
    """The manifest says that the first shard is called `file`, and so it is."""
    shards = json.loads((directory / MANIFEST).read_text())["shards"]
    old, shards[0]["file"] = directory / shards[0]["file"], file
    with suppress(OSError, ValueError):
        (directory / file).write_bytes(old.read_bytes())
    change_manifest(directory, shards=shards)


@pytest.mark.parametrize(
    "name",
    ["../../esc", "..", ".", "", "/nowhere/x", "a/b", "a\\b", "m\x00", "m\n", "n", "m/", None, 3, "x" * 300, "\ud800"],
)
def test_a_module_is_named_as_its_directory(name: object, directory: Path) -> None:
    """A run writes below what a manifest calls its module."""
    change_manifest(directory, module_path=name)
    with pytest.raises(CacheError, match=r"its manifest is of module|module_path"):
        read_manifest(directory)
    with pytest.raises(CacheError, match=r"its manifest is of module|module_path"):
        open_caches(directory.parent)


def test_a_directory_may_be_given_as_one_likes(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory)
    assert read_manifest(Path()).module_path == "m"
    link = directory.parent.parent / "elsewhere"
    link.symlink_to(directory, target_is_directory=True)
    assert read_manifest(link).module_path == "m"


@pytest.mark.parametrize(
    "file", ["../../outside.safetensors", "/nowhere/outside.safetensors", "0_5.safetensors", "x", ""]
)
def test_a_shard_is_named_by_its_features(file: str, directory: Path) -> None:
    renamed_shard(directory, file)
    with pytest.raises(CacheError, match="is not the name of features 0 to 4"):
        CacheReader(directory, verify=True)


@pytest.mark.parametrize(
    "changes", [{"n_rows": "3"}, {"ctx_len": 0}, {"ctx_len": 4.0}, {"width": True}, {"n_rows": 1 << 60}]
)
def test_a_size_that_is_none_is_named(changes: dict[str, Any], directory: Path) -> None:
    change_manifest(directory, **changes)
    with pytest.raises(CacheError, match=next(iter(changes))):
        read_manifest(directory)
