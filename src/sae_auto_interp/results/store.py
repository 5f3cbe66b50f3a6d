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
from sae_auto_interp.results.connection import WriterLock, close_writer, connect_reader, connect_writer, named_errors
from sae_auto_interp.results.digests import DIGESTED, is_as_written, row_digest
from sae_auto_interp.results.migrations import (
    DIGESTS_VERSION,
    REOPENED_VERSION,
    SPENDING_VERSION,
    schema_version,
)
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
    def open(cls, path: Path, *, read_only: bool = False, verify: bool = False) -> "ResultStore":
        """Open `path` for reading, or as its only writer, creating it where it is missing.

        A writer looks at every page of the file first, a reader with `verify`. Each row is checked when it is read.

        Raises CacheError for a file that is missing (when reading), damaged, foreign or too new, and
        RunDirectoryError when another process is writing it.
        """
        if read_only:
            return cls(path, connect_reader(path, verify=verify), None)
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
            self._insert("INSERT OR IGNORE", "finished", stage, unit)

    def reopen(self, stage: str, unit: str) -> None:
        """Take the mark of `unit` away, and how it failed: it is to be done again, and known that it is."""
        with self._transaction():
            self._connection.execute("DELETE FROM finished WHERE stage = ? AND unit = ?", (stage, unit))
            before = self._rows("reopened", "WHERE stage = ? AND unit = ?", stage, unit)
            n = int(str(before[0][-1])) if before else 0
            self._insert("INSERT OR REPLACE", "reopened", stage, unit, n + 1)
            self.clear_failures(unit)

    def reopen_score(self, stage: str, unit: str, score: Score, judge: str) -> None:
        """The one way in which a result goes: to make room for a new try of the same."""
        key = (str(score.feature), score.scorer, score.explanation_id, judge)
        where = "feature = ? AND scorer = ? AND explanation_id = ? AND judge = ?"
        with self._transaction():
            self._connection.execute(f"DELETE FROM scores WHERE {where}", key)
            self.reopen(stage, unit)

    def replace_score(self, stage: str, unit: str, score: Score, judge: str) -> None:
        """Put a score in the place of what its unit came to before."""
        key = (str(score.feature), score.scorer, score.explanation_id, judge)
        where = "feature = ? AND scorer = ? AND explanation_id = ? AND judge = ?"
        with self._transaction():
            self._connection.execute(f"DELETE FROM scores WHERE {where}", key)
            self.clear_failures(unit)
            self.add_score(score, judge)
            self.mark_finished(stage, unit)

    def replace_explanation(self, stage: str, unit: str, outcome: Explanation | Failure) -> None:
        """Put an explanation, or why there is none, in the place of what its unit came to before."""
        with self._transaction():
            self.forget_explanation(unit)
            if isinstance(outcome, Failure):
                self.add_failure(outcome, unit)
            else:
                self.add_explanation(outcome, unit)
            self.mark_finished(stage, unit)

    def forget_explanation(self, explanation_id: str) -> None:
        """Take an explanation away with its scores, the marks of both and how they failed: it says something else."""
        ending = f"/{explanation_id}"
        of_it = "(unit = ? OR substr(unit, -length(?)) = ?)"
        with self._transaction():
            for table in ("explanations", "scores"):
                self._connection.execute(f"DELETE FROM {table} WHERE explanation_id = ?", (explanation_id,))
            for table in ("finished", "failures"):
                self._connection.execute(f"DELETE FROM {table} WHERE {of_it}", (explanation_id, ending, ending))

    def is_finished(self, stage: str, unit: str) -> bool:
        """Whether one unit need not be done again, by now."""
        return bool(self._query("SELECT 1 FROM finished WHERE stage = ? AND unit = ?", stage, unit))

    def score(self, feature: FeatureId, scorer: str, explanation_id: str, judge: str) -> Score | None:
        """One score, where there is one."""
        where = "feature = ? AND scorer = ? AND explanation_id = ? AND judge = ?"
        rows = self._rows("scores", f"WHERE {where}", str(feature), scorer, explanation_id, judge)
        return self._decode(codec.decode_score, rows[0][-1]) if rows else None

    def times_reopened(self, stage: str) -> dict[str, int]:
        """{unit: how often it was opened again}, of those that were."""
        if schema_version(self._connection) < REOPENED_VERSION:
            return {}
        return {str(unit): int(str(n)) for _, unit, n in self._rows("reopened", "WHERE stage = ?", stage)}

    def finished_units(self, stage: str) -> set[str]:
        """The units of `stage` that need not be done again."""
        return {str(unit) for _, unit in self._rows("finished", "WHERE stage = ?", stage)}

    def set_info(self, key: str, value: str) -> None:
        """Record a fact about the run; unlike results, it may be set anew."""
        with self._transaction():
            self._insert("INSERT OR REPLACE", "info", key, value)

    def info(self) -> dict[str, str]:
        """All facts about the run, by key."""
        return {str(key): str(value) for key, value in self._rows("info", "ORDER BY key")}

    def add_spending(self, changes: Mapping[Account, Spent]) -> None:
        """Add what was spent since the last time; the sums only grow."""
        with self._transaction():
            add_spending(self._connection, changes)

    def spending(self) -> dict[Account, Spent]:
        """What was spent on each account, by stage, feature and model; empty for a run older than the table."""
        if schema_version(self._connection) < SPENDING_VERSION:
            return {}
        try:
            return spending_of(self._query("SELECT * FROM spending ORDER BY stage, feature, model"))
        except ValueError as error:
            raise self._damaged(str(error)) from error

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
            self._insert("INSERT OR IGNORE", "failures", unit, codec.encode_failure(failure))

    def clear_failures(self, unit: str) -> None:
        """Forget how a unit failed: it is being tried again, and only its last outcome counts."""
        with self._transaction():
            self._connection.execute("DELETE FROM failures WHERE unit = ?", (unit,))

    def counts(self) -> dict[str, int]:
        """{table: rows}, without reading what is in them."""
        tables = ("records", "explanations", "scores", "failures")
        return {table: int(str(self._query(f"SELECT count(*) FROM {table}")[0][0])) for table in tables}

    def n_with_fewer_examples(self) -> int:
        """Explanations that were made with fewer examples than asked for, so that the prompt fitted; counted unread."""
        sql = """SELECT count(*) FROM explanations WHERE instr(content, CAST('"n_shown":' AS BLOB))"""
        return int(str(self._query(sql)[0][0]))

    def features(self) -> list[FeatureId]:
        """The features that have a record, by module path and index."""
        rows = self._query("SELECT module_path, feature_index FROM records ORDER BY module_path, feature_index")
        if not all(isinstance(module_path, str) and isinstance(index, int) for module_path, index in rows):
            raise self._damaged("a record of no feature")
        return [FeatureId(str(module_path), int(str(index))) for module_path, index in rows]

    def records(self) -> Iterator[FeatureRecord]:
        """All records by module path and index, read one at a time."""
        for feature in self.features():
            record = self.record(feature)
            if record is None:
                raise self._damaged(f"{feature} is listed and cannot be found")
            yield record

    def record(self, feature: FeatureId) -> FeatureRecord | None:
        """The record of one feature, where there is one."""
        where = "WHERE module_path = ? AND feature_index = ?"
        rows = self._rows("records", where, feature.module_path, feature.index)
        return self._decode(codec.decode_record, rows[0][-1]) if rows else None

    def explanation(self, explanation_id: str) -> Explanation | None:
        """One explanation, where there is one."""
        rows = self._rows("explanations", "WHERE explanation_id = ?", explanation_id)
        return self._decode(codec.decode_explanation, rows[0][-1]) if rows else None

    def explanations(self) -> list[tuple[str, Explanation]]:
        """(explanation id, explanation), ordered by id."""
        rows = self._rows("explanations", "ORDER BY explanation_id")
        return [(str(name), self._decode(codec.decode_explanation, content)) for _, _, name, content in rows]

    def scores(self) -> list[tuple[str, Score]]:
        """(judge, score), ordered by explanation, scorer and judge."""
        rows = self._rows("scores", "ORDER BY explanation_id, scorer, judge, feature")
        return [(str(judge), self._decode(codec.decode_score, content)) for *_, judge, content in rows]

    def n_explanations(self, explainer: str) -> int:
        """How many features an explainer has explained; another feature's explanation as a control counts not."""
        query = "SELECT count(*) FROM explanations WHERE substr(explanation_id, 1, ?) = ?"
        prefix = f"{explainer}/"
        return int(str(self._query(query, len(prefix), prefix)[0][0]))

    def scores_of(self, explainer: str, scorer: str, judge: str) -> Iterator[Score]:
        """The scores of an explainer's explanations by one scorer and judge, read one at a time."""
        where = "scorer = ? AND judge = ? AND substr(explanation_id, 1, ?) = ?"
        prefix = f"{explainer}/"
        for *_, content in self._each("scores", f"WHERE {where}", scorer, judge, len(prefix), prefix):
            yield self._decode(codec.decode_score, content)

    def failed_trials(self) -> Iterator[Failure]:
        """The failure of every trial that has one, over all scores, read one score at a time."""
        for *_, content in self._each("scores", "ORDER BY rowid"):
            if self._decode(codec.has_failed_trial, content):
                yield from self._decode(codec.decode_score, content).failures

    def failures(self) -> list[tuple[str, Failure]]:
        """(unit, failure), ordered by unit."""
        rows = self._rows("failures", "ORDER BY unit, content")
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
        with self._transaction():
            if self._holds(table, key, content, beside or {}):
                return
            try:
                self._insert("INSERT", table, *(row[column] for column in DIGESTED[table]))
            except sqlite3.IntegrityError:
                raise self._conflict(table, beside or key) from None

    def _holds(self, table: str, key: Mapping[str, str | int], content: bytes, beside: Mapping[str, str]) -> bool:
        """Whether the row is there already; raises when the key is, with anything else in it."""
        where = " AND ".join(f"{column} = ?" for column in key)
        rows = self._rows(table, f"WHERE {where}", *key.values())
        if not rows:
            return False
        found = dict(zip(DIGESTED[table], rows[0], strict=True))
        is_equal = all(found[column] == value for column, value in beside.items())
        if not is_equal or not self._decode(lambda stored: codec.is_same(stored, content), found["content"]):
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

    def _insert(self, how: str, table: str, *values: str | int | bytes) -> None:
        """A row with its digest; `values` in the order of `DIGESTED`."""
        columns = ", ".join((*DIGESTED[table], "digest"))
        places = ", ".join("?" * (len(values) + 1))
        row = (*values, row_digest(table, *values))
        self._connection.execute(f"{how} INTO {table} ({columns}) VALUES ({places})", row)

    def _rows(self, table: str, rest: str, *values: str | int) -> list[tuple[object, ...]]:
        """Rows without their digests, each checked; those of older results have none."""
        return list(self._each(table, rest, *values))

    def _each(self, table: str, rest: str, *values: str | int) -> Iterator[tuple[object, ...]]:
        """The same row by row; close the iterator before anything is written."""
        has_digests = schema_version(self._connection) >= DIGESTS_VERSION
        columns = ", ".join((*DIGESTED[table], *(["digest"] if has_digests else [])))
        with named_errors(self._path):
            for row in self._connection.execute(f"SELECT {columns} FROM {table} {rest}", values):
                if has_digests and not is_as_written(table, row):
                    raise self._damaged(f"an entry in {table} is not what was written")
                yield row[:-1] if has_digests else row

    def _damaged(self, reason: str) -> CacheError:
        return CacheError(f"{self._path} is damaged: {reason}; restore a copy, or move the file away and run again")

    def _decode(self, decoder: Callable[[bytes], T], content: object) -> T:
        """Content that does not read as what it should be is damage, whatever way it shows."""
        if not isinstance(content, bytes):
            raise self._damaged(f"an entry is of type {type(content).__name__}")
        try:
            return decoder(content)
        except (
            zlib.error,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            ArithmeticError,
            RecursionError,
        ) as error:
            raise CacheError(
                f"{self._path} holds an entry that cannot be read ({type(error).__name__}: {error}); restore a copy, "
                f"or move the file away and run again"
            ) from error
