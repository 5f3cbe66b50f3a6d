"""SQLite connections to results.sqlite, and its errors by name."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from sae_auto_interp.errors import CacheError
from sae_auto_interp.results.migrations import check_version, migrate, schema_version

_PATIENCE_SECONDS = 10.0


def connect_writer(path: Path) -> sqlite3.Connection:
    """Open or create `path` and bring its schema up to date; the caller holds the writer lock.

    Transactions are explicit. The write-ahead log lets readers in; with it `synchronous = NORMAL` can lose the
    last units at a power cut but never damages the file, and a lost unit is simply done again.
    """
    with named_errors(path):
        connection = sqlite3.connect(path, isolation_level=None, timeout=_PATIENCE_SECONDS)
        with _closed_on_error(connection):
            check_version(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            migrate(connection)
        return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open an existing `path` without the right to change it."""
    if not path.is_file():
        raise CacheError(f"there are no results at {path}; give the directory of a run that has been started")
    with named_errors(path):
        address = f"file:{quote(str(path.resolve()))}?mode=ro"
        connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=_PATIENCE_SECONDS)
        with _closed_on_error(connection):
            check_version(connection, path)
            if schema_version(connection) == 0:
                raise CacheError(f"{path} holds no results yet; run the pipeline first")
        return connection


def close_writer(connection: sqlite3.Connection) -> None:
    """Close, and leave one plain file behind unless someone is reading it just now."""
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA busy_timeout = 0")
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()


@contextmanager
def named_errors(path: Path) -> Generator[None, None, None]:
    """Turn SQLite's errors about the file into a CacheError that names it and says what to do."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except sqlite3.OperationalError as error:
        raise CacheError(
            f"{path} cannot be used: {error}; it must lie on a local disk that is writable and not full"
        ) from error
    except sqlite3.DatabaseError as error:
        raise CacheError(
            f"{path} is damaged or not a results file ({error}); restore a copy, or move it away and run again"
        ) from error


@contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Generator[None, None, None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise
