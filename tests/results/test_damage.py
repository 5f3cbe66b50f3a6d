"""Damage of results.sqlite of any kind is one error that names the file; nothing that changed is read."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sae_auto_interp.errors import CacheError, RunDirectoryError
from sae_auto_interp.pipeline.progress.status import read_status
from sae_auto_interp.report import summarise
from sae_auto_interp.results import RESULTS_FILE, ResultStore, digests as row_digests
from sae_auto_interp.results.connection import WriterLock, is_being_written
from sae_auto_interp.results.migrations import DIGESTS_VERSION
from tests.support.run_fixture import write_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    path = write_run(folder)
    (folder / "manifest.json").write_text("{}")
    return path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole.parent, tmp_path / "run")
    return tmp_path / "run" / RESULTS_FILE


def change(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def read_all(path: Path) -> object:
    with ResultStore.open(path, read_only=True, verify=True) as store:
        records = [str(record.feature) for record in store.records()]
        return records, store.explanations(), store.scores(), store.failures(), store.info()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE scores SET content = 'text'",
        "UPDATE explanations SET content = 'text' WHERE rowid = 1",
        "UPDATE records SET content = CAST(content AS TEXT) WHERE rowid = 1",
        "UPDATE records SET feature_index = 'many' WHERE rowid = 1",
        "UPDATE failures SET content = 17",
        "UPDATE scores SET judge = x'ff' WHERE rowid = 1",
        "UPDATE explanations SET content = CAST(replace(content, 'mostly', 'rarely') AS BLOB)",
        "UPDATE info SET value = '7' WHERE key = 'seed'",
        "UPDATE scores SET digest = NULL WHERE rowid = 2",
        "UPDATE scores SET scorer = 'other' WHERE rowid = 1",
        "DROP TABLE scores",
        "ALTER TABLE scores RENAME COLUMN content TO contents",
    ],
)
def test_what_is_not_as_it_was_written_is_one_error(statement: str, path: Path) -> None:
    change(path, statement)
    with pytest.raises(CacheError, match=r"results\.sqlite .*restore a copy"):
        read_all(path)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_text("feature\tscore\n" * 400),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(path.read_bytes()[:100]),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), change(path, "CREATE TABLE results (x)", "PRAGMA user_version = 2")),
        lambda path: (path.unlink(), change(path, "CREATE TABLE results (x)")),
        lambda path: path.write_bytes(b""),
    ],
    ids=["text", "half", "header", "directory", "other schema", "other database", "empty"],
)
@pytest.mark.parametrize("read", [lambda root: read_status(root), lambda root: summarise(root)])
def test_a_file_that_cannot_be_results_is_one_error(
    make: Callable[[Path], object], read: Callable[[Path], object], path: Path
) -> None:
    make(path)
    with pytest.raises(CacheError, match=RESULTS_FILE):
        read(path.parent)


def test_no_flipped_bit_changes_what_is_read(path: Path) -> None:
    expected, content = read_all(path), path.read_bytes()
    n_found = 0
    for bit in range(4111, 8 * len(content), 8 * len(content) // 150):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            assert read_all(path) == expected, f"bit {bit}"
        except CacheError:
            n_found += 1
    assert n_found > 100


def test_a_writer_refuses_damaged_pages(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3 * 4096 : 4 * 4096] = content[4 * 4096 : 5 * 4096]
    path.write_bytes(content)
    with pytest.raises(CacheError, match=r"results\.sqlite"):
        ResultStore.open(path)


def without_digests(path: Path) -> None:
    """As an older version left it."""
    change(
        path,
        *(f"ALTER TABLE {table} DROP COLUMN digest" for table in row_digests.DIGESTED),
        f"PRAGMA user_version = {DIGESTS_VERSION - 1}",
    )


def test_older_results_open_and_get_digests(whole: Path, path: Path) -> None:
    expected = read_all(whole)
    without_digests(path)
    assert read_all(path) == expected
    ResultStore.open(path).close()
    assert read_all(path) == expected
    change(path, "UPDATE explanations SET content = CAST(replace(content, 'mostly', 'rarely') AS BLOB)")
    with pytest.raises(CacheError, match="is not what was written"):
        read_all(path)


def test_a_type_that_is_wrong_in_older_results_is_one_error(path: Path) -> None:
    without_digests(path)
    change(path, "UPDATE scores SET content = 'text' WHERE rowid = 1")
    with pytest.raises(CacheError, match="an entry is of type str"):
        read_all(path)


LOOK = """
import json, os, sys
from pathlib import Path
from sae_auto_interp.pipeline.progress.status import read_status
from sae_auto_interp.results import ResultStore
import sae_auto_interp.results.store, tempfile, encodings.idna
root = Path(sys.argv[1])
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    (root / "probe").touch()
except OSError:
    pass
else:
    sys.exit("the directory can be written")
status = read_status(root)
with ResultStore.open(root / "results.sqlite", read_only=True, verify=True) as store:
    print(json.dumps([status.counts, status.is_running, len(list(store.records())), len(store.scores())]))
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that any user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are others there")
@pytest.mark.parametrize("was_killed", [False, True])
def test_a_directory_that_nobody_may_write_to_is_read(was_killed: bool, path: Path, shared: Path) -> None:
    """What a killed run leaves has the last units in a log beside the file."""
    root = shared / "run"
    if was_killed:
        writer = sqlite3.connect(path)
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute(
            "INSERT INTO spending (stage, feature, model, n_paid, n_cached, n_lost, prompt_tokens, "
            "completion_tokens, lost_tokens, usd) VALUES ('score', 'a', 'm', 1, 0, 0, 1, 1, 0, 0.5)"
        )
        writer.commit()
        shutil.copytree(path.parent, root, ignore=shutil.ignore_patterns("*-shm"))
        writer.close()
        assert (root / "results.sqlite-wal").stat().st_size > 0
    else:
        shutil.copytree(path.parent, root)
    before = sorted(file.name for file in root.iterdir())
    for file in root.iterdir():
        file.chmod(0o444)
    root.chmod(0o555)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", LOOK, str(root)]
    said = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False, cwd="/")
    root.chmod(0o755)
    assert said.returncode == 0, said.stderr
    with ResultStore.open(path, read_only=True) as store:
        expected = [store.counts(), False, len(list(store.records())), len(store.scores())]
    assert json.loads(said.stdout) == expected
    assert sorted(file.name for file in root.iterdir()) == before


def test_who_writes_is_known_without_writing(path: Path) -> None:
    assert not is_being_written(path)
    lock = WriterLock(path)
    assert is_being_written(path)
    lock.release()
    assert not is_being_written(path)
    path.with_name(path.name + ".lock").unlink()
    assert not is_being_written(path)
    assert not path.with_name(path.name + ".lock").exists()
    path.with_name(path.name + ".lock").mkdir()
    with pytest.raises(RunDirectoryError, match="cannot be opened"):
        ResultStore.open(path)
