"""The store: what goes in comes out, whole units or nothing, one writer, and damage is named."""

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sae_auto_interp.errors import CacheError, RunDirectoryError
from sae_auto_interp.results import RESULTS_FILE, ResultStore
from sae_auto_interp.results.migrations import MIGRATIONS
from sae_auto_interp.types import Explanation, Failure, FeatureId
from tests.results.test_codec import assert_same_record
from tests.support.run_fixture import feature_of, make_record, make_score, write_run

FEATURE = feature_of(0)
EXPLANATION = Explanation(FEATURE, "Names of months 😀 \ud800", "lexical", "top-tokens-1")
EXPLANATION_ID = f"lexical/{FEATURE}"
SCORE = make_score(make_record(0), "detection", EXPLANATION_ID, 0.8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / RESULTS_FILE


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in another process, which sees the same packages."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


def count(path: Path, table: str) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    finally:
        connection.close()


def test_everything_comes_back(path: Path) -> None:
    failure = Failure("explain", "unparsable", "no marker", raw="well \ud83d")
    with ResultStore.open(path) as store:
        store.set_info("model", "gpt2")
        store.set_info("model", "gpt2-medium")
        store.add_record(make_record(0))
        store.add_explanation(EXPLANATION, EXPLANATION_ID)
        store.add_score(SCORE, "lexical")
        store.add_failure(failure, "simple/x:1")
        store.mark_finished("score", "unit 1")
    with ResultStore.open(path, read_only=True) as store:
        assert store.info() == {"model": "gpt2-medium"}
        assert_same_record(make_record(0), next(iter(store.records())))
        assert store.explanations() == [(EXPLANATION_ID, EXPLANATION)]
        assert store.scores() == [("lexical", SCORE)]
        assert store.failures() == [("simple/x:1", failure)]
        assert store.finished_units("score") == {"unit 1"}
        assert store.finished_units("explain") == set()


def test_records_come_by_module_and_number_whatever_the_order_of_writing(path: Path) -> None:
    records = {n: make_record(n) for n in (3, 11, 0)}
    with ResultStore.open(path) as store:
        for record in records.values():
            store.add_record(record)
        assert [r.feature for r in store.records()] == sorted(r.feature for r in records.values())
        found = store.record(records[11].feature)
        assert found is not None
        assert_same_record(records[11], found)
        assert store.record(FeatureId("nowhere", 0)) is None


def test_adding_the_same_again_does_nothing(path: Path) -> None:
    for _ in range(2):
        with ResultStore.open(path) as store:
            store.add_record(make_record(0))
            store.add_explanation(EXPLANATION, EXPLANATION_ID)
            store.add_score(SCORE, "lexical")
            store.add_score(SCORE, "another judge")
            store.add_failure(Failure("explain", "timeout", "late"), "u")
            store.mark_finished("score", "u")
    counts = {t: count(path, t) for t in ("records", "explanations", "scores", "failures", "finished")}
    assert counts == {"records": 1, "explanations": 1, "scores": 2, "failures": 1, "finished": 1}


def test_only_the_last_outcome_of_a_unit_counts(path: Path) -> None:
    with ResultStore.open(path) as store:
        for unit, kind in [("u", "timeout"), ("u", "rate_limited"), ("v", "timeout")]:
            store.add_failure(Failure("explain", kind, "late"), unit)
        store.clear_failures("u")
        store.add_failure(Failure("explain", "unparsable", "no marker"), "u")
        store.clear_failures("never failed")
        assert [(unit, failure.kind) for unit, failure in store.failures()] == [("u", "unparsable"), ("v", "timeout")]


def test_adding_something_else_under_the_same_key_raises_and_changes_nothing(path: Path) -> None:
    with ResultStore.open(path) as store:
        store.add_record(make_record(0))
        store.add_explanation(EXPLANATION, EXPLANATION_ID)
        store.add_score(SCORE, "lexical")
        with pytest.raises(RunDirectoryError, match=r"records for module_path 'transformer.h.1.mlp', feature_index"):
            store.add_record(replace(make_record(0), train=()))
        with pytest.raises(RunDirectoryError, match="explanations for feature"):
            store.add_explanation(replace(EXPLANATION, text="other"), EXPLANATION_ID)
        with pytest.raises(RunDirectoryError, match="explanations for feature"):
            store.add_explanation(EXPLANATION, "another id")
        with pytest.raises(RunDirectoryError, match="explanation_id"):
            store.add_explanation(replace(EXPLANATION, explainer="simple"), EXPLANATION_ID)
        with pytest.raises(RunDirectoryError, match="judge 'lexical'"):
            store.add_score(replace(SCORE, trials=SCORE.trials[1:]), "lexical")
        assert store.explanations() == [(EXPLANATION_ID, EXPLANATION)]
        assert store.scores() == [("lexical", SCORE)]


def test_a_unit_is_written_whole_or_not_at_all(path: Path) -> None:
    def fail_inside() -> None:
        with store.unit("explain", EXPLANATION_ID):
            store.add_explanation(EXPLANATION, EXPLANATION_ID)
            raise KeyboardInterrupt

    with ResultStore.open(path) as store:
        with pytest.raises(KeyboardInterrupt):
            fail_inside()
        assert (store.explanations(), store.finished_units("explain")) == ([], set())
        with store.unit("explain", EXPLANATION_ID):
            store.add_explanation(EXPLANATION, EXPLANATION_ID)
        assert store.finished_units("explain") == {EXPLANATION_ID}
        with store.unit("explain", EXPLANATION_ID):
            store.add_explanation(EXPLANATION, EXPLANATION_ID)
        assert len(store.explanations()) == 1


def test_a_conflict_undoes_its_unit(path: Path) -> None:
    def add_both() -> None:
        with store.unit("score", "2"):
            store.add_score(SCORE, "new judge")
            store.add_score(replace(SCORE, trials=()), "lexical")

    with ResultStore.open(path) as store:
        store.add_score(SCORE, "lexical")
        with pytest.raises(RunDirectoryError):
            add_both()
        assert store.scores() == [("lexical", SCORE)]
        assert store.finished_units("score") == set()


KILLED = """
import os, sys
from pathlib import Path
from sae_auto_interp.results import ResultStore
from tests.support.run_fixture import make_record
store = ResultStore.open(Path(sys.argv[1]))
with store.unit("records", "first"):
    store.add_record(make_record(0))
with store.unit("records", "second"):
    store.add_record(make_record(1))
    os._exit(9)
"""


def test_a_kill_in_the_middle_of_a_unit_leaves_none_of_it(path: Path) -> None:
    done = run_python(KILLED, str(path))
    assert done.returncode == 9, done.stderr
    for read_only in (True, False):
        with ResultStore.open(path, read_only=read_only) as store:
            assert [r.feature for r in store.records()] == [feature_of(0)]
            assert store.finished_units("records") == {"first"}
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


SECOND_WRITER = """
import sys
from pathlib import Path
from sae_auto_interp.errors import RunDirectoryError
from sae_auto_interp.results import ResultStore
try:
    ResultStore.open(Path(sys.argv[1])).close()
except RunDirectoryError as error:
    print(error)
    sys.exit(3)
"""


def test_a_second_writer_is_refused_while_readers_come_and_go(path: Path) -> None:
    with ResultStore.open(path) as store:
        store.add_record(make_record(0))
        with pytest.raises(RunDirectoryError, match="being written by another process"):
            ResultStore.open(path)
        done = run_python(SECOND_WRITER, str(path))
        assert done.returncode == 3, done.stderr
        assert str(path) in done.stdout
        with ResultStore.open(path, read_only=True) as reader:
            assert len(list(reader.records())) == 1
            store.add_record(make_record(1))
            assert len(list(reader.records())) == 2
    assert run_python(SECOND_WRITER, str(path)).returncode == 0


def test_a_closed_store_is_one_file_and_its_lock(path: Path) -> None:
    store = ResultStore.open(path)
    store.add_record(make_record(0))
    store.close()
    store.close()
    assert sorted(p.name for p in path.parent.iterdir()) == [RESULTS_FILE, f"{RESULTS_FILE}.lock"]


def test_closing_under_a_reader_loses_nothing(path: Path) -> None:
    store = ResultStore.open(path)
    store.add_record(make_record(0))
    with ResultStore.open(path, read_only=True) as reader:
        assert len(list(reader.records())) == 1
        store.close()
        assert len(list(reader.records())) == 1


@pytest.mark.parametrize("content", [b"not a database at all, only text" * 40, b"SQLite format 3\x00" + b"\xff" * 5000])
@pytest.mark.parametrize("read_only", [True, False])
def test_a_foreign_file_is_named(path: Path, content: bytes, read_only: bool) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(CacheError, match=r"results.sqlite is damaged or not a results file .* move it away"):
        ResultStore.open(path, read_only=read_only)
    path.unlink()
    ResultStore.open(path).close()


def test_damage_inside_is_named(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    content = bytearray(path.read_bytes())
    content[8192 : len(content) - 4096] = b"\xa5" * (len(content) - 12288)
    path.write_bytes(content)

    def read_all() -> None:
        with ResultStore.open(path, read_only=True) as store:
            list(store.records())
            store.scores()

    with pytest.raises(CacheError, match=r"results\.sqlite"):
        read_all()


def test_an_entry_that_is_no_value_is_named(path: Path) -> None:
    with ResultStore.open(path) as store:
        store.add_explanation(EXPLANATION, EXPLANATION_ID)
    connection = sqlite3.connect(path)
    connection.execute("""UPDATE explanations SET content = CAST('{"feature": "x:1"}' AS BLOB)""")
    connection.commit()
    connection.close()
    with ResultStore.open(path, read_only=True) as store, pytest.raises(CacheError, match="is not what was written"):
        store.explanations()


def test_missing_empty_newer_and_foreign_databases(path: Path) -> None:
    with pytest.raises(CacheError, match="there are no results at"):
        ResultStore.open(path, read_only=True)
    path.parent.mkdir()
    path.touch()
    with pytest.raises(CacheError, match="holds no results yet"):
        ResultStore.open(path, read_only=True)
    ResultStore.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    said = rf"schema version {len(MIGRATIONS) + 1}, .* only up to {len(MIGRATIONS)}; upgrade"
    for read_only in (True, False):
        with pytest.raises(CacheError, match=said):
            ResultStore.open(path, read_only=read_only)
    connection.execute("PRAGMA user_version = 0")
    connection.close()
    with pytest.raises(CacheError, match="SQLite database of something else"):
        ResultStore.open(path)


def test_a_reader_cannot_write(path: Path) -> None:
    ResultStore.open(path).close()
    with ResultStore.open(path, read_only=True) as store, pytest.raises(AssertionError, match="reading only"):
        store.set_info("a", "b")


def test_a_path_with_odd_characters(tmp_path: Path) -> None:
    path = tmp_path / "a b?c#d%20é" / RESULTS_FILE
    with ResultStore.open(path) as store:
        store.set_info("a", "b")
    with ResultStore.open(path, read_only=True) as store:
        assert store.info() == {"a": "b"}
