"""The spool: what is journaled is safe, what is not is done again, and what does not belong is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sae_auto_interp.cache.spool import JOURNAL, Spool, stored
from sae_auto_interp.errors import CacheError
from tests.support.records import directory_bytes


def opened(directory: Path, fingerprint: str = "f", **changes: Any) -> Spool:
    settings: dict[str, Any] = {"n_positions": 100, "dtype": "float16", "max_bytes": 0} | changes
    return Spool(directory, {"a": 3, "b": 70_000}, fingerprint=fingerprint, **settings)


def fill(spool: Spool, first: int, last: int) -> None:
    """One entry per module and row."""
    for row in range(first, last):
        for module, feature in (("a", row % 3), ("b", 69_999)):
            spool.append(module, np.array([feature]), np.array([row]), np.array([row + 1], np.float32))
        spool.commit(row + 1)


@given(arrays(np.float32, st.integers(0, 40), elements=st.floats(0, 65_504, width=32)))
def test_stored_values_are_numpys(values: np.ndarray[Any, Any]) -> None:
    narrow = values.astype(np.float16)
    vanished = (narrow == 0) & (values > 0)
    found = stored(values, np.dtype("float16"))
    np.testing.assert_array_equal(found[~vanished], narrow[~vanished])
    assert (found[vanished] == np.finfo(np.float16).smallest_subnormal).all()
    assert ((found > 0) == (values > 0)).all()
    np.testing.assert_array_equal(stored(values, np.dtype("float32")), values)


def test_only_what_becomes_infinite_is_too_large() -> None:
    assert stored(np.array([65_519.0], np.float32), np.dtype("float16")).tolist() == [65_504.0]
    with pytest.raises(CacheError, match="an activation of 65520 does not fit float16"):
        stored(np.array([1.0, 65_520.0], np.float32), np.dtype("float16"))
    for value in (np.inf, np.nan):
        with pytest.raises(
            CacheError, match=f"an activation is {value}: the subject model or an autoencoder overflows"
        ):
            stored(np.array([value], np.float32), np.dtype("float32"))


def test_a_reopened_spool_goes_on_where_the_journal_ends(tmp_path: Path) -> None:
    fill(opened(tmp_path / "whole"), 0, 5)
    fill(opened(tmp_path / "parts"), 0, 3)
    again = opened(tmp_path / "parts")
    assert (again.rows_done, again.n_runs) == (3, 3)
    fill(again, 3, 5)
    assert directory_bytes(tmp_path / "parts") == directory_bytes(tmp_path / "whole")
    assert [path.name for path in again.run_files("b")] == [f"run0000{i}_1.safetensors" for i in range(5)]


def test_what_the_journal_does_not_promise_is_thrown_away(tmp_path: Path) -> None:
    fill(opened(tmp_path), 0, 2)
    before = directory_bytes(tmp_path)
    for name in ("run00002_0.safetensors", ".run00002_1.safetensors.partial"):
        (tmp_path / name).write_bytes(b"half")
    assert opened(tmp_path).rows_done == 2
    assert directory_bytes(tmp_path) == before


@pytest.mark.parametrize("torn", ['{"run": 2, "rows_d', '{"run": 2, "rows_done": 3}', "{"])
def test_a_torn_line_is_dropped(torn: str, tmp_path: Path) -> None:
    fill(opened(tmp_path / "whole"), 0, 4)
    fill(opened(tmp_path / "torn"), 0, 2)
    before = (tmp_path / "torn" / JOURNAL).read_text()
    (tmp_path / "torn" / JOURNAL).write_text(before + torn)
    again = opened(tmp_path / "torn")
    assert (tmp_path / "torn" / JOURNAL).read_text() == before
    assert again.rows_done == 2
    fill(again, 2, 4)
    assert directory_bytes(tmp_path / "torn") == directory_bytes(tmp_path / "whole")


def test_a_torn_first_line_begins_anew(tmp_path: Path) -> None:
    fill(opened(tmp_path), 0, 2)
    (tmp_path / JOURNAL).write_text('{"finger')
    assert opened(tmp_path).rows_done == 0
    assert [path.name for path in tmp_path.iterdir()] == [JOURNAL]


def test_other_work_is_refused(tmp_path: Path) -> None:
    fill(opened(tmp_path), 0, 2)
    before = directory_bytes(tmp_path)
    with pytest.raises(CacheError, match=f"{tmp_path} holds a half-finished cache of another configuration"):
        opened(tmp_path, "g")
    assert directory_bytes(tmp_path) == before


def test_a_lost_run_is_named(tmp_path: Path) -> None:
    fill(opened(tmp_path), 0, 3)
    (tmp_path / "run00001_1.safetensors").unlink()
    with pytest.raises(CacheError, match=r"lost .*run00001_1\.safetensors; delete"):
        opened(tmp_path)


@pytest.mark.parametrize(
    "journal",
    [
        "\0\0\0\n",
        "[1]\n",
        '{"fingerprint": "f"}\n{"run": 0}\n',
        '{"fingerprint": "f"}\n{"run": 1, "rows_done": 2}\n',
        '{"fingerprint": "f"}\n{"run": 0, "rows_done": "2"}\n',
    ],
)
def test_a_damaged_journal_is_named(journal: str, tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text(journal)
    with pytest.raises(CacheError, match=rf"{JOURNAL} is damaged; delete"):
        opened(tmp_path)


def test_buffers_spill_when_they_are_full_and_at_the_end(tmp_path: Path) -> None:
    spool = opened(tmp_path, max_bytes=50)
    n_bytes = (2 + 2 + 2) + (4 + 2 + 2)  # feature, location and value of each module
    fill(spool, 0, 3)
    assert (spool.n_runs, spool.rows_done) == (0, 0)
    assert 3 * n_bytes < 50 <= 4 * n_bytes
    fill(spool, 3, 5)
    assert (spool.n_runs, spool.rows_done) == (1, 4)
    spool.commit(5, last=True)
    assert (spool.n_runs, spool.rows_done) == (2, 5)
    lines = [json.loads(line) for line in (tmp_path / JOURNAL).read_text().splitlines()]
    assert lines[1:] == [{"run": 0, "rows_done": 4}, {"run": 1, "rows_done": 5}]


def test_time_spills_too_and_less_often_as_a_run_grows(tmp_path: Path) -> None:
    """Every row takes a second: at first a kill costs five rows at most, later a twentieth of all."""
    now = 0.0
    spool = opened(tmp_path, max_bytes=1 << 30, clock=lambda: now)
    done: list[int] = []
    for row in range(1000):
        now += 1.0
        fill(spool, row, row + 1)
        done.append(spool.rows_done)
    lost = [row + 1 - rows_done for row, rows_done in enumerate(done)]
    assert max(lost[:100]) == 4
    assert all(n <= max(5, 0.05 * (row + 1)) for row, n in enumerate(lost))
    assert spool.n_runs < 90
