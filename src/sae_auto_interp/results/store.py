"""`ResultStore`: what a run has produced, in one SQLite file.

In: records, explanations, failures and scores, as they are finished. Out: the same values, equal to what went in
but for activations, which keep 5 significant digits.

Append-only: a key (see each `add_` method) is written once. Adding it again with the same content does nothing,
which makes a resumed run harmless; with other content it raises, because a run never mixes configurations.
One process writes (`lock`), any number read at the same time. After a clean close the results are a single file
that can be copied.
"""

import sqlite3
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from sae_auto_interp.errors import CacheError, RunDirectoryError
from sae_auto_interp.results import codec
from sae_auto_interp.results.connection import close_writer, connect_reader, connect_writer, named_errors
from sae_auto_interp.results.lock import WriterLock
from sae_auto_interp.results.migrations import SPENDING_VERSION, schema_version
from sae_auto_interp.results.spending_table import add_spending, spending_of
from sae_auto_interp.types import Explanation, Failure, FeatureId, FeatureRecord, Score
from sae_auto_interp.types.spending import Account, Spent

RESULTS_FILE = "results.sqlite"
T = TypeVar("T")


class ResultStore:
    """Open with `ResultStore.open`; use as a context manager, or `close` it. Belongs to the thread that opened it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: WriterLock | None) -> None:
        self._path = path
        self._connection = connection
        self._lock = lock

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> "ResultStore":
        """Open `path` for reading, or as its only writer, creating it where it is missing.

        Raises CacheError for a file that is missing (when reading), damaged, foreign or too new, and
        RunDirectoryError when another process is writing it.
        """
        if read_only:
            return cls(path, connect_reader(path), None)
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = WriterLock(path)
        try:
            return cls(path, connect_writer(path), lock)
        except BaseException:
            lock.release()
            raise

    def close(self) -> None:
        """Close the file and let the next writer in; closing twice does nothing."""
        if self._lock is None:
            self._connection.close()
            return
        close_writer(self._connection)
        self._lock.release()
        self._lock = None

    def __enter__(self) -> "ResultStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def unit(self, stage: str, unit: str) -> Generator[None, None, None]:
        """Everything added inside is committed together with the mark that `unit` is finished, or not at all.

        Await nothing inside: what other tasks add meanwhile would become part of this unit.
        """
        assert not self._connection.in_transaction, f"unit {unit!r} of {stage!r} was opened inside another one"
        with self._transaction():
            yield
            self.mark_finished(stage, unit)

    def mark_finished(self, stage: str, unit: str) -> None:
        """Say that nothing is left to do for `unit`; saying it twice is harmless."""
        with self._transaction():
            self._connection.execute("INSERT OR IGNORE INTO finished VALUES (?, ?)", (stage, unit))

    def reopen(self, stage: str, unit: str) -> None:
        """Take the mark of `unit` away, and how it failed: it is to be done again, and known that it is."""
        with self._transaction():
            self._connection.execute("DELETE FROM finished WHERE stage = ? AND unit = ?", (stage, unit))
            self._connection.execute(
                "INSERT INTO reopened VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET n = n + 1", (stage, unit)
            )
            self.clear_failures(unit)

    def reopen_score(self, stage: str, unit: str, score: Score, judge: str) -> None:
        """The one way in which a result goes: to make room for a new try of the same."""
        key = (str(score.feature), score.scorer, score.explanation_id, judge)
        where = "feature = ? AND scorer = ? AND explanation_id = ? AND judge = ?"
        with self._transaction():
            self._connection.execute(f"DELETE FROM scores WHERE {where}", key)
            self.reopen(stage, unit)

    def times_reopened(self, stage: str) -> dict[str, int]:
        """{unit: how often it was opened again}, of those that were."""
        return {
            str(unit): int(str(n)) for unit, n in self._query("SELECT unit, n FROM reopened WHERE stage = ?", stage)
        }

    def finished_units(self, stage: str) -> set[str]:
        """The units of `stage` that need not be done again."""
        return {str(unit) for (unit,) in self._query("SELECT unit FROM finished WHERE stage = ?", stage)}

    def set_info(self, key: str, value: str) -> None:
        """Record a fact about the run; unlike results, it may be set anew."""
        with self._transaction():
            self._connection.execute("INSERT OR REPLACE INTO info VALUES (?, ?)", (key, value))

    def info(self) -> dict[str, str]:
        """All facts about the run, by key."""
        return {str(key): str(value) for key, value in self._query("SELECT key, value FROM info ORDER BY key")}

    def add_spending(self, changes: Mapping[Account, Spent]) -> None:
        """Add what was spent since the last time; the sums only grow."""
        with self._transaction():
            add_spending(self._connection, changes)

    def spending(self) -> dict[Account, Spent]:
        """What was spent on each account, by stage, feature and model; empty for a run older than the table."""
        if schema_version(self._connection) < SPENDING_VERSION:
            return {}
        return spending_of(self._query("SELECT * FROM spending ORDER BY stage, feature, model"))

    def add_record(self, record: FeatureRecord) -> None:
        """Key: the feature."""
        key = {"module_path": record.feature.module_path, "feature_index": record.feature.index}
        self._add("records", key, codec.encode_record(record))

    def add_explanation(self, explanation: Explanation, explanation_id: str) -> None:
        """Key: (feature, explainer). `explanation_id` names no other explanation."""
        key = {"feature": str(explanation.feature), "explainer": explanation.explainer}
        content = codec.encode_explanation(explanation)
        self._add("explanations", key, content, {"explanation_id": explanation_id})

    def add_score(self, score: Score, judge: str) -> None:
        """Key: (feature, scorer, explanation_id, judge)."""
        key = {
            "feature": str(score.feature),
            "scorer": score.scorer,
            "explanation_id": score.explanation_id,
            "judge": judge,
        }
        self._add("scores", key, codec.encode_score(score))

    def add_failure(self, failure: Failure, unit: str) -> None:
        """A unit may fail in several ways; the same failure of the same unit is kept once."""
        with self._transaction():
            self._connection.execute(
                "INSERT OR IGNORE INTO failures (unit, content) VALUES (?, ?)", (unit, codec.encode_failure(failure))
            )

    def clear_failures(self, unit: str) -> None:
        """Forget how a unit failed: it is being tried again, and only its last outcome counts."""
        with self._transaction():
            self._connection.execute("DELETE FROM failures WHERE unit = ?", (unit,))

    def counts(self) -> dict[str, int]:
        """{table: rows}, without reading what is in them."""
        tables = ("records", "explanations", "scores", "failures")
        return {table: int(str(self._query(f"SELECT count(*) FROM {table}")[0][0])) for table in tables}

    def features(self) -> list[FeatureId]:
        """The features that have a record, by module path and index."""
        rows = self._query("SELECT module_path, feature_index FROM records ORDER BY module_path, feature_index")
        return [FeatureId(str(module_path), int(str(index))) for module_path, index in rows]

    def records(self) -> Iterator[FeatureRecord]:
        """All records by module path and index, read one at a time."""
        for feature in self.features():
            record = self.record(feature)
            assert record is not None, f"{feature} vanished while reading"
            yield record

    def record(self, feature: FeatureId) -> FeatureRecord | None:
        """The record of one feature, where there is one."""
        query = "SELECT content FROM records WHERE module_path = ? AND feature_index = ?"
        rows = self._query(query, feature.module_path, feature.index)
        return self._decode(codec.decode_record, rows[0][0]) if rows else None

    def explanation(self, explanation_id: str) -> Explanation | None:
        """One explanation, where there is one."""
        rows = self._query("SELECT content FROM explanations WHERE explanation_id = ?", explanation_id)
        return self._decode(codec.decode_explanation, rows[0][0]) if rows else None

    def explanations(self) -> list[tuple[str, Explanation]]:
        """(explanation id, explanation), ordered by id."""
        rows = self._query("SELECT explanation_id, content FROM explanations ORDER BY explanation_id")
        return [(str(name), self._decode(codec.decode_explanation, content)) for name, content in rows]

    def scores(self) -> list[tuple[str, Score]]:
        """(judge, score), ordered by explanation, scorer and judge."""
        rows = self._query("SELECT judge, content FROM scores ORDER BY explanation_id, scorer, judge, feature")
        return [(str(judge), self._decode(codec.decode_score, content)) for judge, content in rows]

    def failures(self) -> list[tuple[str, Failure]]:
        """(unit, failure), ordered by unit."""
        rows = self._query("SELECT unit, content FROM failures ORDER BY unit, content")
        return [(str(unit), self._decode(codec.decode_failure, content)) for unit, content in rows]

    def _add(
        self,
        table: str,
        key: Mapping[str, str | int],
        content: bytes,
        beside: Mapping[str, str] | None = None,
    ) -> None:
        """Insert a row; an equal one is left alone, an unequal one is an error."""
        row = {**key, **(beside or {}), "content": content}
        columns, places = ", ".join(row), ", ".join("?" * len(row))
        with self._transaction():
            if self._holds(table, key, content, beside or {}):
                return
            try:
                statement = f"INSERT INTO {table} ({columns}) VALUES ({places})"
                self._connection.execute(statement, tuple(row.values()))
            except sqlite3.IntegrityError:
                raise self._conflict(table, beside or key) from None

    def _holds(self, table: str, key: Mapping[str, str | int], content: bytes, beside: Mapping[str, str]) -> bool:
        """Whether the row is there already; raises when the key is, with anything else in it."""
        columns = ", ".join(["content", *beside])
        where = " AND ".join(f"{column} = ?" for column in key)
        rows = self._query(f"SELECT {columns} FROM {table} WHERE {where}", *key.values())
        if not rows:
            return False
        found, *others = rows[0]
        assert isinstance(found, bytes), type(found)
        if others != list(beside.values()) or not codec.is_same(found, content):
            raise self._conflict(table, key)
        return True

    def _conflict(self, table: str, key: Mapping[str, str | int]) -> RunDirectoryError:
        named = ", ".join(f"{column} {value!r}" for column, value in key.items())
        return RunDirectoryError(
            f"{self._path} already holds a different entry in {table} for {named}; results are never overwritten: "
            f"give another run directory"
        )

    @contextmanager
    def _transaction(self) -> Generator[None, None, None]:
        """Joins the transaction of an enclosing `unit`, or is one of its own."""
        assert self._lock is not None, f"{self._path} is open for reading only"
        with named_errors(self._path):
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _query(self, statement: str, *values: str | int) -> list[tuple[object, ...]]:
        with named_errors(self._path):
            return self._connection.execute(statement, values).fetchall()

    def _decode(self, decoder: Callable[[bytes], T], content: object) -> T:
        """Content that does not read as what it should be is damage, whatever way it shows."""
        assert isinstance(content, bytes), type(content)
        try:
            return decoder(content)
        except (zlib.error, ValueError, KeyError, TypeError) as error:
            raise CacheError(
                f"{self._path} holds an entry that cannot be read ({type(error).__name__}: {error}); restore a copy, "
                f"or move the file away and run again"
            ) from error
