"""The spool: what is journaled is safe, what is not is done again, and what does not belong is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sae_auto_interp.cache import write_buffer as spool_module
from sae_auto_interp.cache.journal import JOURNAL
from sae_auto_interp.cache.write_buffer import WriteBuffer
from sae_auto_interp.errors import CacheError, InputError
from tests.support.records import directory_bytes


def opened(directory: Path, fingerprint: str = "f", **changes: Any) -> WriteBuffer:
    settings: dict[str, Any] = {"n_positions": 100, "dtype": "float16", "max_bytes": 0} | changes
    return WriteBuffer(directory, {"a": 3, "b": 70_000}, fingerprint=fingerprint, **settings)


def fill(spool: WriteBuffer, first: int, last: int) -> None:
    """One entry per module and row."""
    for row in range(first, last):
        for module, feature in (("a", row % 3), ("b", 69_999)):
            spool.append(module, np.array([feature]), np.array([row]), np.array([row + 1], np.float32))
        spool.commit(row + 1)


def test_a_reopened_spool_goes_on_where_the_journal_ends(tmp_path: Path) -> None:
    fill(opened(tmp_path / "whole"), 0, 5)
    fill(opened(tmp_path / "parts"), 0, 3)
    again = opened(tmp_path / "parts")
    assert (again.rows_done, again.n_runs) == (3, 3)
    fill(again, 3, 5)
    assert directory_bytes(tmp_path / "parts") == directory_bytes(tmp_path / "whole")
    assert len(again.sources("b")) == 5
    assert {path.name for path in (tmp_path / "parts").iterdir()} == {
        JOURNAL,
        *(f"run0000{i}.safetensors" for i in range(5)),
    }


def test_what_the_journal_does_not_promise_is_thrown_away(tmp_path: Path) -> None:
    fill(opened(tmp_path), 0, 2)
    before = directory_bytes(tmp_path)
    for name in ("run00002.safetensors", ".run00003.safetensors.partial"):
        (tmp_path / name).write_bytes(b"half")
    assert opened(tmp_path).rows_done == 2
    assert directory_bytes(tmp_path) == before


@pytest.mark.parametrize("torn", ['{"rows_d', '{"rows_done": 3, "runs": [1], "crc32": 0}', "{", "\0" * 30])
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
    (tmp_path / "run00001.safetensors").unlink()
    with pytest.raises(CacheError, match=r"lost .*run00001\.safetensors; delete"):
        opened(tmp_path)


@pytest.mark.parametrize("number", [0, 2])
def test_a_damaged_run_is_named_at_opening_and_at_the_end(number: int, tmp_path: Path) -> None:
    spool = opened(tmp_path)
    fill(spool, 0, 3)
    path = tmp_path / f"run0000{number}.safetensors"
    content = path.read_bytes()
    for damaged in (flipped(content, 8 * len(content) - 1), flipped(content, 700), content[:-1], b"foreign"):
        path.write_bytes(damaged)
        with pytest.raises(CacheError, match=rf"{path.name} is damaged: its checksum is not the journal's; delete"):
            opened(tmp_path)
    path.write_bytes(content)
    assert opened(tmp_path).rows_done == 3


def test_a_run_of_another_form_is_named(tmp_path: Path) -> None:
    """The checksum fits, but not what the run should hold: the journal came with it."""
    fill(opened(tmp_path), 0, 2)
    differing: list[dict[str, Any]] = [{"dtype": "float32"}, {"n_positions": 10**6}]
    for changes in differing:
        with pytest.raises(CacheError, match=r"run00000\.safetensors cannot be read .*: it is damaged or foreign"):
            opened(tmp_path, **changes).sources("a")


def flipped(content: bytes, bit: int) -> bytes:
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def test_every_flipped_bit_of_the_journal_is_found(tmp_path: Path) -> None:
    """Named, or another's work, or (where the end of the last line is hit) torn; never another row to go on at."""
    fill(opened(tmp_path), 0, 2)
    content = (tmp_path / JOURNAL).read_bytes()
    saved = directory_bytes(tmp_path)
    for bit in range(0, 8 * len(content), 3):
        (tmp_path / JOURNAL).write_bytes(flipped(content, bit))
        try:
            spool = opened(tmp_path)
        except CacheError:
            continue
        assert (spool.rows_done, spool.n_runs) in ((2, 2), (1, 1))
        assert spool.rows_done == 2 or bit // 8 == len(content) - 1
        for name, file in saved.items():
            (tmp_path / name).write_bytes(file)


def test_what_is_no_journal_is_named(tmp_path: Path) -> None:
    for journal in ("\0\0\0\n", "[1]\n", "3\n", "{}\n", '{"fingerprint": "f"}\n', '{"crc32": 1, "fingerprint": "f"}\n'):
        (tmp_path / JOURNAL).write_text(journal)
        with pytest.raises(CacheError, match=rf"{JOURNAL} is damaged; delete"):
            opened(tmp_path)


def test_the_pool_spills_when_it_is_full_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "LEAST_ENTRIES", 1)
    spool = opened(tmp_path, max_bytes=9 * 12)
    fill(spool, 0, 3)
    assert (spool.n_runs, spool.rows_done) == (0, 0)
    fill(spool, 3, 6)
    assert (spool.n_runs, spool.rows_done) == (1, 4), "8 of 9 entries: the next row's two would not fit"
    spool.commit(6, last=True)
    assert (spool.n_runs, spool.rows_done) == (2, 6)
    lines = [json.loads(line) for line in (tmp_path / JOURNAL).read_text().splitlines()]
    assert [(line["rows_done"], len(line["runs"])) for line in lines[1:]] == [(4, 1), (6, 1)]


def test_a_batch_larger_than_the_pool_is_spilled_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not depend on the batch; nothing is promised before the whole batch is on disk."""
    monkeypatch.setattr(spool_module, "LEAST_ENTRIES", 1)
    spool = opened(tmp_path, max_bytes=4 * 12)
    for module in ("a", "b"):
        spool.append(module, np.arange(9) % 3, np.arange(9), np.ones(9, np.float32))
    assert (spool.n_runs, len(list(tmp_path.glob("run*")))) == (0, 4)
    assert opened(tmp_path / "..").rows_done == 0
    spool.commit(1)
    assert (spool.n_runs, spool.rows_done) == (5, 1)
    for module in ("a", "b"):
        counts = [source.counts(0, 3) for source in spool.sources(module)]
        assert np.sum(counts, axis=0).tolist() == [3, 3, 3]


def test_locations_further_apart_than_32_bits_reach_do_not_wrap(tmp_path: Path) -> None:
    far = [5, 2**32 + 4, 2**32 + 5, 2**33, 2**40, 2**40 + 1]
    spool = opened(tmp_path, n_positions=2**41)
    spool.append("a", np.array([1, 1, 1, 2, 1, 1]), np.array(far), np.arange(1, 7, dtype=np.float32))
    spool.append("b", np.array([0, 0]), np.array([7, 2**40 + 2]), np.ones(2, np.float32))
    spool.commit(1)
    found: dict[int, list[int]] = {1: [], 2: []}
    for source in spool.sources("a"):
        for feature, n in zip((0, 1, 2), source.counts(0, 3).tolist(), strict=True):
            if n:
                found[feature] += source.take(n, spool.location_dtype)[0].tolist()
    assert found == {1: [5, 2**32 + 4, 2**32 + 5, 2**40, 2**40 + 1], 2: [2**33]}


def test_what_belongs_to_other_entries_is_refused(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    one = np.ones(1, np.float32)
    with pytest.raises(AssertionError, match="features 3 to 3 of a"):
        spool.append("a", np.array([3]), np.array([0]), one)
    with pytest.raises(AssertionError, match="locations 100 to 100 of 100"):
        spool.append("a", np.array([0]), np.array([100]), one)
    with pytest.raises(InputError, match="activation_dtype='int8'"):
        opened(tmp_path, dtype="int8")


def test_time_spills_too_and_less_often_as_a_run_grows(tmp_path: Path) -> None:
    """Every row takes a second: at first a kill costs five rows at most, later a hundredth of all."""
    now = 0.0
    spool = opened(tmp_path, n_positions=1000, max_bytes=1 << 30, clock=lambda: now)
    done: list[int] = []
    for row in range(1000):
        now += 1.0
        fill(spool, row, row + 1)
        done.append(spool.rows_done)
    lost = [row + 1 - rows_done for row, rows_done in enumerate(done)]
    assert max(lost[:100]) == 4
    assert all(n <= max(5, 0.01 * (row + 1)) for row, n in enumerate(lost))
    assert spool.n_runs < 170
