"""WriteBuffer and merge against sorting everything at once, whatever the runs and blocks."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from safetensors.numpy import load_file

from sae_auto_interp.cache import merge, write_buffer
from sae_auto_interp.cache.layout import shard_ranges
from sae_auto_interp.cache.merge import merge_into_cache
from sae_auto_interp.cache.reader import CacheReader
from sae_auto_interp.cache.value_types import as_float32, stored
from sae_auto_interp.cache.write_buffer import WriteBuffer
from sae_auto_interp.errors import CacheError
from sae_auto_interp.types import CacheManifest, TokenRows
from tests.support.records import Entry, directory_bytes, plain_rows, read_entries, write_cache

WIDTH = 9


def random_entries(rng: np.random.Generator, n_rows: int, ctx_len: int, density: float) -> list[Entry]:
    """Some features never fire, some nearly everywhere."""
    chance = rng.choice([0.0, density, density, 0.9], WIDTH)
    fires = rng.random((n_rows, ctx_len, WIDTH)) < chance
    return [(r, p, f, float(np.float32(rng.gamma(1.0) + 1e-3))) for r, p, f in np.argwhere(fires).tolist()]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    density=st.sampled_from([0.0, 0.02, 0.3]),
    rows_per_run=st.integers(1, 7),
    n_splits=st.integers(1, WIDTH),
    chunk_entries=st.sampled_from([1, 7, 1 << 20]),
)
def test_merged_shards_are_the_sorted_entries(
    seed: int,
    density: float,
    rows_per_run: int,
    n_splits: int,
    chunk_entries: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("cache")
    rows = plain_rows(6, 5)
    entries = random_entries(np.random.default_rng(seed), 6, 5, density)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merge, "CHUNK_ENTRIES", chunk_entries)
        write_cache(root, rows, {"m": entries}, width=WIDTH, n_splits=n_splits, rows_per_run=rows_per_run)
    ordered = sorted(entries, key=lambda entry: (entry[2], entry[0], entry[1]))
    for first, last in shard_ranges(WIDTH, n_splits):
        shard = load_file(root / "m" / f"{first}_{last}.safetensors")
        expected = [entry for entry in ordered if first <= entry[2] <= last]
        assert shard["locations"].tolist() == [row * 5 + position for row, position, _, _ in expected]
        assert shard["activations"].tolist() == [value for *_, value in expected]
        counts = np.bincount([feature - first for _, _, feature, _ in expected], minlength=last - first + 1)
        assert shard["offsets"].tolist() == [0, *np.cumsum(counts).tolist()]
    reader = CacheReader(root / "m", verify=True)
    assert read_entries(reader) == ordered
    check_statistics(reader, ordered)


def check_statistics(reader: CacheReader, entries: list[Entry]) -> None:
    values = [np.array([value for *_, feature, value in entries if feature == index]) for index in range(WIDTH)]
    found = reader.statistics()
    assert found["n_activations"].tolist() == [len(v) for v in values]
    np.testing.assert_array_equal(found["max"], [v.max(initial=0) for v in values])
    np.testing.assert_allclose(found["sum"], [v.sum() for v in values], rtol=1e-12)
    np.testing.assert_allclose(found["sum_of_squares"], [(v**2).sum() for v in values], rtol=1e-12)
    rows = [len({row for row, _, feature, _ in entries if feature == index}) for index in range(WIDTH)]
    assert found["n_active_rows"].tolist() == rows
    ctx_len = reader.manifest.ctx_len
    at = np.zeros((WIDTH, ctx_len), int)
    for _, position, feature, _ in entries:
        at[feature, position] += 1
    assert [reader.position_counts(index).tolist() for index in range(WIDTH)] == at.tolist()
    assert reader.position_totals().tolist() == at.sum(0).tolist()


def test_every_split_of_ten_features_comes_back(tmp_path: Path) -> None:
    """Features 2, 5 and 9, the last of their shards, among them; with those of another shard silent."""
    rows = plain_rows(4, 3)
    entries = [(r, p, f, 1.0 + f) for r in range(4) for p in range(3) for f in (0, 2, 5, 9)]
    write_cache(tmp_path / "a", rows, {"m": entries}, width=10, n_splits=3)
    assert {path.name for path in (tmp_path / "a" / "m").glob("*_*")} == {
        "0_2.safetensors",
        "3_5.safetensors",
        "6_9.safetensors",
    }
    assert sorted(read_entries(CacheReader(tmp_path / "a" / "m", verify=True))) == entries
    only_first = [entry for entry in entries if entry[2] == 0]
    write_cache(tmp_path / "b", rows, {"m": only_first}, width=10, n_splits=3)
    reader = CacheReader(tmp_path / "b" / "m", verify=True)
    assert sorted(read_entries(reader)) == only_first
    assert [shard.n_activations for shard in reader.manifest.shards] == [12, 0, 0]


@pytest.mark.parametrize(("n_rows", "expected"), [(64, "uint16"), (65, "uint32")])
def test_locations_do_not_wrap(n_rows: int, expected: str, tmp_path: Path) -> None:
    rows = TokenRows.from_ids(np.zeros((n_rows, 1024), np.int32))
    last = (n_rows - 1, 1023, 3, 2.0)
    write_cache(tmp_path, rows, {"m": [(0, 0, 3, 1.0), last]}, width=4, rows_per_run=10)
    reader = CacheReader(tmp_path / "m")
    assert reader.manifest.location_dtype == expected
    assert load_file(tmp_path / "m" / "3_3.safetensors")["locations"].dtype == expected
    assert reader.entries(3).locations.tolist() == [0, n_rows * 1024 - 1]
    assert reader.entries(3).locations.dtype == np.int64


def random_batches(n_entries: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        (
            np.sort(rng.choice(100, n_entries, replace=False)) + 100 * i,
            rng.integers(0, WIDTH, n_entries),
            rng.random(n_entries).astype(np.float32),
        )
        for i in range(8)
    ]


def description(n_rows: int, ctx_len: int, dtype: str = "float16", width: int = WIDTH) -> CacheManifest:
    location_type = str(merge.location_dtype(n_rows * ctx_len))
    return CacheManifest(2, "m", "x", "x", "", "x", n_rows, ctx_len, width, dtype, location_type, (), "f")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_buffer_sizes_change_no_byte(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums too: they are added in an order that knows nothing of runs."""
    monkeypatch.setattr(write_buffer, "LEAST_ENTRIES", 7)
    monkeypatch.setattr(merge, "CHUNK_ENTRIES", 10)
    files = []
    for max_bytes in (0, 7 * 12, 60 * 12, 10**6):
        root = tmp_path / str(max_bytes)
        found = WriteBuffer(
            root / "work", {"m": WIDTH}, n_positions=800, dtype=dtype, max_bytes=max_bytes, fingerprint="f"
        )
        for i, (locations, features, values) in enumerate(random_batches(20)):
            found.append("m", features, locations, values)
            found.commit(i + 1, last=i == 7)
        merge_into_cache(found.sources("m"), root / "m", shard_ranges(WIDTH, 3), description(8, 100, dtype))
        files.append((found.n_runs, directory_bytes(root / "m")))
    n_runs = [n for n, _ in files]
    assert n_runs[0] > 8, "a batch takes several runs"
    assert n_runs[1] > n_runs[2] > n_runs[3] == 1
    assert all(found == files[0][1] for _, found in files)
    reader = CacheReader(tmp_path / "0" / "m", verify=True)
    for index in range(WIDTH):
        expected = np.concatenate([values[features == index] for _, features, values in random_batches(20)])
        code = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}[dtype]
        np.testing.assert_array_equal(reader.entries(index).activations, as_float32(stored(expected, dtype), code))


def spooled(directory: Path, n_batches: int = 8) -> WriteBuffer:
    found = WriteBuffer(directory, {"m": WIDTH}, n_positions=800, dtype="float16", max_bytes=0, fingerprint="f")
    for i, (locations, features, values) in enumerate(random_batches(20)[:n_batches]):
        found.append("m", features, locations, values)
        found.commit(i + 1, last=i == n_batches - 1)
    return found


@pytest.mark.parametrize("n_shards", [1, 2, 4, 9])
def test_the_number_of_threads_changes_no_byte(n_shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "CHUNK_ENTRIES", 10)
    found = spooled(tmp_path / "work")
    files = []
    for n_threads in (1, 3, 9):
        folder = tmp_path / str(n_threads)
        ranges = shard_ranges(WIDTH, n_shards)
        merge_into_cache(found.sources("m"), folder, ranges, description(8, 100), n_threads=n_threads)
        files.append(directory_bytes(folder))
    assert files[0] == files[1] == files[2]
    assert len(files[0]) == n_shards + 2


@pytest.mark.parametrize("n_threads", [1, 4])
def test_a_shard_that_cannot_be_made_ends_the_others(
    n_threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says is what the caller hears; the others end at their next chunk, the one that takes its place too."""
    found = spooled(tmp_path / "work")
    others, failed = threading.Barrier(n_threads), threading.Event()
    begun, went_on = list[int](), list[int]()
    chunks = merge._chunks

    def watched(sources: Any, first: int, *rest: Any) -> Any:
        begun.append(first)
        for number, chunk in enumerate(chunks(sources, first, *rest)):
            if number == 0 and first < n_threads:
                others.wait(30)
            if first == 0:
                failed.set()
                raise CacheError("the disk is full")
            assert failed.wait(30)
            time.sleep(0.2)
            yield chunk
            went_on.append(first)

    monkeypatch.setattr(merge, "_chunks", watched)
    with pytest.raises(CacheError, match="the disk is full"):
        merge_into_cache(
            found.sources("m"), tmp_path / "m", shard_ranges(WIDTH, WIDTH), description(8, 100), n_threads=n_threads
        )
    assert set(begun) <= set(range(n_threads + 1))
    assert went_on == []
    assert list((tmp_path / "m").iterdir()) == []


def test_modules_share_the_pool_and_do_not_mix(tmp_path: Path) -> None:
    widths = {"a": 4, "b": 70_000, "c": 4}
    found = WriteBuffer(tmp_path / "work", widths, n_positions=40, dtype="float32", max_bytes=1 << 20, fingerprint="f")
    for row in range(4):
        for number, (module, width) in enumerate(widths.items(), start=1):
            at = np.arange(10 * row, 10 * row + 10)
            found.append(module, at % 3 + width - 3, at, (at + 100 * number).astype(np.float32))
        found.commit(row + 1, last=row == 3)
    for number, (module, width) in enumerate(widths.items(), start=1):
        directory = tmp_path / module
        described = replace(description(4, 10, "float32", width), module_path=module)
        merge_into_cache(found.sources(module), directory, [(0, width - 1)], described)
        reader = CacheReader(directory, verify=True)
        for rest in range(3):
            expected = [at for at in range(40) if at % 3 == rest]
            assert reader.entries(width - 3 + rest).locations.tolist() == expected
            assert reader.entries(width - 3 + rest).activations.tolist() == [at + 100 * number for at in expected]
        assert reader.statistics()["n_activations"].sum() == 40


def test_nothing_at_all_is_a_cache_too(tmp_path: Path) -> None:
    found = WriteBuffer(
        tmp_path / "work", {"m": WIDTH}, n_positions=800, dtype="bfloat16", max_bytes=0, fingerprint="f"
    )
    found.commit(8, last=True)
    assert (found.rows_done, found.n_runs) == (8, 0)
    merge_into_cache(found.sources("m"), tmp_path / "m", shard_ranges(WIDTH, 2), description(8, 100, "bfloat16"))
    reader = CacheReader(tmp_path / "m", verify=True)
    assert read_entries(reader) == []
    assert reader.position_totals().tolist() == [0] * 100


def test_locations_beyond_32_bits_come_through(tmp_path: Path) -> None:
    n_rows, ctx_len = 2**34, 256
    far = [0, 255, 2**32 - 1, 2**32, 2**32 + 1, 2**41, n_rows * ctx_len - 1]
    found = WriteBuffer(
        tmp_path / "w", {"m": 3}, n_positions=n_rows * ctx_len, dtype="float16", max_bytes=0, fingerprint="f"
    )
    found.append("m", np.full(7, 1), np.array(far), np.arange(1, 8, dtype=np.float32))
    found.commit(n_rows, last=True)
    merge_into_cache(found.sources("m"), tmp_path / "m", [(0, 2)], description(n_rows, ctx_len, width=3))
    reader = CacheReader(tmp_path / "m", verify=True)
    assert reader.manifest.location_dtype == "uint64"
    assert reader.entries(1).locations.tolist() == far
    assert reader.statistics()["n_active_rows"].tolist() == [0, 5, 0]
    assert {place: n for place, n in enumerate(reader.position_counts(1)) if n} == {0: 3, 1: 1, 255: 3}
    assert reader.position_totals().sum() == 7
