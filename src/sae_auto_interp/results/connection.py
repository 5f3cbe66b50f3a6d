"""SQLite connections to results.sqlite, its errors by name, and its lock.

One process at a time writes a results file, whatever was killed before.

The operating system's lock on an open file (flock; msvcrt.locking on Windows) is released by the kernel when the
process ends, however it ends; a file whose mere existence is the lock would outlive a crash. SQLite's own exclusive
mode would also shut out the report that reads while a run is on.

The lock file stays behind, empty of meaning: deleting it would let two writers lock two different files.
"""

import os
import shutil
import sqlite3
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from sae_auto_interp.errors import CacheError, RunDirectoryError
from sae_auto_interp.results.migrations import check_version, migrate, schema_version

if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _try_lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class WriterLock:
    """Held from construction to `release`."""

    def __init__(self, target: Path) -> None:
        path = lock_file(target)
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RunDirectoryError(
                f"{path} cannot be opened ({error.strerror}); the run directory must be writable"
            ) from error
        try:
            _try_lock(self._descriptor)
        except OSError as error:
            os.close(self._descriptor)
            raise RunDirectoryError(
                f"{target} is being written by another process ({error.strerror}); wait until that run ends or "
                f"stop it, or give another run directory"
            ) from None

    def release(self) -> None:
        """Closing the file releases the lock."""
        os.close(self._descriptor)


def lock_file(target: Path) -> Path:
    """The file beside `target` whose lock its writer holds."""
    return target.with_name(target.name + ".lock")


def is_being_written(target: Path) -> bool:
    """Whether a process holds the lock of a results file just now. Writes nothing."""
    try:
        descriptor = os.open(lock_file(target), os.O_RDONLY)
    except OSError:  # none, or not ours to look at
        return False
    try:
        _try_lock(descriptor)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


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
            _check_pages(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            migrate(connection)
        return connection


def connect_reader(path: Path, *, verify: bool = False) -> sqlite3.Connection:
    """Open an existing `path` without the right to change it, or anything beside it; `verify` looks at every page.

    Where a killed run left its log beside the file, and the directory may not be written to, SQLite cannot put the two
    together: that is done with a copy.
    """
    if not path.is_file():
        raise CacheError(f"there are no results at {path}; give the directory of a run that has been started")
    with named_errors(path):
        try:
            return _opened_for_reading(path, path, verify)
        except sqlite3.OperationalError:
            if not any(beside.is_file() for beside in _logs_of(path)) and not _has_write_ahead_log(path):
                raise
        with TemporaryDirectory(prefix="sae-auto-interp-") as folder:
            copy = Path(folder, path.name)
            for file in (path, *_logs_of(path)):
                if file.is_file():
                    shutil.copyfile(file, copy.with_name(file.name))
            with closing(sqlite3.connect(copy)) as connection:
                connection.execute("PRAGMA journal_mode = DELETE")
            return _in_memory(_opened_for_reading(copy, path, verify))


def _opened_for_reading(file: Path, named: Path, verify: bool) -> sqlite3.Connection:
    address = f"file:{quote(str(file.resolve()))}?mode=ro"
    connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=_PATIENCE_SECONDS)
    with _closed_on_error(connection):
        check_version(connection, named)
        if schema_version(connection) == 0:
            raise CacheError(f"{named} holds no results yet; run the pipeline first")
        if verify:
            _check_pages(connection, named)
    return connection


def _in_memory(connection: sqlite3.Connection) -> sqlite3.Connection:
    """The same content, free of the file."""
    memory = sqlite3.connect(":memory:", isolation_level=None)
    with closing(connection):
        connection.backup(memory)
    return memory


def _logs_of(path: Path) -> tuple[Path, Path]:
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-journal")


def _has_write_ahead_log(path: Path) -> bool:
    """Whether the file's header says so: a run was killed, or is going on."""
    with path.open("rb") as stream:
        return stream.read(20)[18:] == b"\x02\x02"


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `CacheError` unless the pages fit together: a row may be lost without any other sign of it."""
    try:
        (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except TypeError:  # no row at all
        found = "no answer"
    if found != "ok":
        raise CacheError(f"{path} is damaged ({found}); restore a copy, or move it away and run again")


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
        if "no such" in str(error) or "decode" in str(error):
            raise _damaged(path, error) from error
        raise CacheError(
            f"{path} cannot be used: {error}; it must lie on a local disk that is writable and not full"
        ) from error
    except (sqlite3.DatabaseError, OverflowError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> CacheError:
    return CacheError(
        f"{path} is damaged or not a results file ({error}); restore a copy, or move it away and run again"
    )


@contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Generator[None, None, None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise
