"""The schema of results.sqlite as an ordered list of steps; `PRAGMA user_version` says how many were taken.

A step is never edited once released: a change is a new step at the end. Values live in `content` as written by
`codec`; the columns beside it are keys, for uniqueness and order.
"""

import sqlite3
from pathlib import Path

from sae_auto_interp.errors import CacheError
from sae_auto_interp.results import digests

_FIRST = (
    "CREATE TABLE info (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE records (
        module_path TEXT NOT NULL, feature_index INTEGER NOT NULL, content BLOB NOT NULL,
        PRIMARY KEY (module_path, feature_index))""",
    """CREATE TABLE explanations (
        feature TEXT NOT NULL, explainer TEXT NOT NULL, explanation_id TEXT NOT NULL UNIQUE, content BLOB NOT NULL,
        PRIMARY KEY (feature, explainer))""",
    """CREATE TABLE failures (
        unit TEXT NOT NULL, content BLOB NOT NULL,
        PRIMARY KEY (unit, content))""",
    """CREATE TABLE scores (
        feature TEXT NOT NULL, scorer TEXT NOT NULL, explanation_id TEXT NOT NULL, judge TEXT NOT NULL,
        content BLOB NOT NULL,
        PRIMARY KEY (feature, scorer, explanation_id, judge))""",
    "CREATE TABLE finished (stage TEXT NOT NULL, unit TEXT NOT NULL, PRIMARY KEY (stage, unit)) WITHOUT ROWID",
)

_SPENDING = (
    """CREATE TABLE spending (
        stage TEXT NOT NULL, feature TEXT NOT NULL, model TEXT NOT NULL,
        n_paid INTEGER NOT NULL, n_cached INTEGER NOT NULL, n_lost INTEGER NOT NULL,
        prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, lost_tokens INTEGER NOT NULL,
        usd REAL NOT NULL,
        PRIMARY KEY (stage, feature, model)) WITHOUT ROWID""",
)
"""What answers cost; unlike results, the sums grow."""

_REOPENED = (
    "CREATE TABLE reopened (stage TEXT NOT NULL, unit TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (stage, unit)) "
    "WITHOUT ROWID",
)
"""How often a unit was opened again: what it asks then depends on that."""

_UNCOUNTED = ("ALTER TABLE spending ADD COLUMN n_uncounted INTEGER NOT NULL DEFAULT 0",)
"""Answers that are charged at the most that they can be. An older run counted them as nothing."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _SPENDING, _REOPENED, _UNCOUNTED, digests.STATEMENTS)
SPENDING_VERSION = 2
REOPENED_VERSION = 3
DIGESTS_VERSION = 5
"""Databases of readers may be older: a reader takes no step."""


def schema_version(connection: sqlite3.Connection) -> int:
    """How many steps this database has taken; 0 for a new one."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check_version(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a database from a newer version, or one that is not ours."""
    version = schema_version(connection)
    if version > len(MIGRATIONS):
        raise CacheError(
            f"{path} has schema version {version}, but this version of sae-auto-interp knows only up to "
            f"{len(MIGRATIONS)}; upgrade sae-auto-interp to read it"
        )
    is_empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if version == 0 and not is_empty:
        raise CacheError(f"{path} is an SQLite database of something else; give another run directory")


def migrate(connection: sqlite3.Connection) -> None:
    """Take the missing steps, each whole or not at all."""
    digests.add_function(connection)
    for number in range(schema_version(connection), len(MIGRATIONS)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in MIGRATIONS[number]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
