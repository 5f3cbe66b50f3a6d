"""Spool and merge against sorting everything at once, whatever the runs and blocks."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from sae_auto_interp.cache import merge
from sae_auto_interp.cache.layout import STATISTICS, shard_ranges
from sae_auto_interp.cache.merge import merge_runs
from sae_auto_interp.cache.reader import CacheReader
from sae_auto_interp.cache.spool import Spool
from sae_auto_interp.errors import CacheError
from sae_auto_interp.types import TokenRows
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
    block_entries=st.sampled_from([1, 7, 1 << 20]),
)
def test_merged_shards_are_the_sorted_entries(
    seed: int,
    density: float,
    rows_per_run: int,
    n_splits: int,
    block_entries: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("cache")
    rows = plain_rows(6, 5)
    entries = random_entries(np.random.default_rng(seed), 6, 5, density)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merge, "BLOCK_ENTRIES", block_entries)
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


def test_buffer_sizes_change_no_byte(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    files = []
    batches = [
        (np.sort(rng.integers(i * 100, i * 100 + 100, 50)), rng.integers(0, WIDTH, 50), rng.random(50))
        for i in range(8)
    ]
    for max_bytes in (0, 500, 700, 10**9):
        root = tmp_path / str(max_bytes)
        spool = Spool(
            root / "work", {"m": WIDTH}, n_positions=800, dtype="float16", max_bytes=max_bytes, fingerprint="f"
        )
        for i, (locations, features, values) in enumerate(batches):
            spool.append("m", features, locations, values.astype(np.float32))
            spool.commit(i + 1, last=i == 7)
        shards = merge_runs(spool.run_files("m"), root / "m", shard_ranges(WIDTH, 3))
        files.append((spool.n_runs, shards, directory_bytes(root / "m")))
    assert [n_runs for n_runs, *_ in files] == [8, 4, 3, 1]
    assert all(found[1:] == files[0][1:] for found in files)


def test_a_damaged_run_is_named(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "work", {"m": 4}, n_positions=10, dtype="float16", max_bytes=0, fingerprint="f")
    spool.append("m", np.array([1]), np.array([3]), np.array([2.0], np.float32))
    spool.commit(1)
    (run,) = spool.run_files("m")
    run.write_bytes(run.read_bytes()[:-1])
    with pytest.raises(CacheError, match=run.name):
        merge_runs([run], tmp_path / "m", [(0, 3)])
    assert not (tmp_path / "m" / STATISTICS).exists()
