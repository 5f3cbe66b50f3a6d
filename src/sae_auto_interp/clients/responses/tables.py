"""The SQLite tables of the response cache, and the statements on them. One connection belongs to one thread at a time.

The write-ahead log lets any number of processes read while one writes; with `synchronous = NORMAL` what was committed
survives the death of the process, though not always a power cut. `totals` holds the size of all rows and is changed in
the transaction that changes them, so that it is right whoever writes. Least recently used rows go first.

Rows are kept in the order of arrival, beside an index of keys: in a table without row ids whatever is longer than a
quarter of a page, as answers with log-probabilities are, takes a page of its own. Older files are such tables.

Each row has a digest of its key and content: SQLite does not notice a flipped bit. Files of version 1 had none; their
rows get one when the file is first opened, so what was damaged before that moment cannot be told.
"""

import logging
import sqlite3
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from sae_auto_interp.errors import CacheError

_log = logging.getLogger(__name__)

ROW_BYTES = 160
"""What a row takes beside its content: key, index entries, page overhead."""
KEPT_SHARE = 0.9
"""An overfull cache is cut to this share of its size, so that not every answer evicts another."""
_BUSY_SECONDS = 30.0
_VERSION = 2
_DIGEST_BYTES = 16
_EVICTED_AT_ONCE = 500

_TABLES = (
    """CREATE TABLE responses (
        key BLOB PRIMARY KEY NOT NULL, used REAL NOT NULL, content BLOB NOT NULL, digest BLOB)""",
    "CREATE INDEX by_use ON responses (used)",
    "CREATE TABLE totals (n_bytes INTEGER NOT NULL)",
    "INSERT INTO totals VALUES (0)",
    f"PRAGMA user_version = {_VERSION}",
)
_DIGESTS = (
    "ALTER TABLE responses ADD COLUMN digest BLOB",
    "UPDATE responses SET digest = answer_digest(key, content)",
    f"PRAGMA user_version = {_VERSION}",
)
"""From version 1."""


class DamagedRowError(ValueError):
    """A row is not what was written."""


def connect(path: Path, *, busy_seconds: float = _BUSY_SECONDS) -> sqlite3.Connection:
    """Open or create the cache. Raises CacheError for a file that is damaged, foreign, or not to be written."""
    with named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, isolation_level=None, timeout=busy_seconds, check_same_thread=False)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def find(connection: sqlite3.Connection, key: bytes) -> tuple[bytes, float] | None:
    """Content and time of last use of a row. Raises `DamagedRowError` for one that is not as it was written."""
    found = connection.execute("SELECT content, used, digest FROM responses WHERE key = ?", (key,)).fetchone()
    if found is None:
        return None
    content, used, digest = found
    if not isinstance(content, bytes) or digest_of(key, content) != digest:
        raise DamagedRowError(f"the answer {key.hex()[:12]} is not what was stored")
    return content, used if isinstance(used, float) else 0.0  # decides only what is evicted first


def digest_of(key: object, content: object) -> bytes:
    """What a row's digest is; that of what cannot be a row fits none."""
    if not isinstance(key, bytes) or not isinstance(content, bytes):
        return b""
    return blake2b(content, digest_size=_DIGEST_BYTES, key=key[:64]).digest()


def write(
    connection: sqlite3.Connection,
    added: Iterable[tuple[bytes, bytes]],
    used: Iterable[bytes],
    removed: Iterable[bytes],
    max_bytes: int,
) -> None:
    """One transaction: rows that go, rows that come (one that is there stays), and rows that were used again."""
    now = time.time()
    connection.execute("BEGIN IMMEDIATE")
    try:
        grown = sum(_remove(connection, key) for key in removed)
        grown += sum(_add(connection, key, content, now) for key, content in added)
        connection.executemany("UPDATE responses SET used = ? WHERE key = ?", [(now, key) for key in used])
        if grown:
            _set_total(connection, total_bytes(connection) + grown)
        has_evicted = _evict(connection, max_bytes)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if has_evicted:
        connection.executescript("PRAGMA incremental_vacuum")  # `execute` would give back one page only


def total_bytes(connection: sqlite3.Connection) -> int:
    """What all rows take; counted anew where the note of it is damaged."""
    row: tuple[object, ...] | None = connection.execute("SELECT n_bytes FROM totals").fetchone()
    noted = None if row is None else row[0]
    return noted if isinstance(noted, int) and 0 <= noted < 1 << 62 else _counted_bytes(connection)


def _counted_bytes(connection: sqlite3.Connection) -> int:
    query = f"SELECT coalesce(sum(length(content) + {ROW_BYTES}), 0) FROM responses"
    return int(connection.execute(query).fetchone()[0])


def _set_total(connection: sqlite3.Connection, n_bytes: int) -> None:
    connection.execute("DELETE FROM totals")
    connection.execute("INSERT INTO totals VALUES (?)", (n_bytes,))


@contextmanager
def named_errors(path: Path) -> Generator[None, None, None]:
    """Turn what SQLite and the file system say into a CacheError that names the file and a way out."""
    way_out = "set responses.path to a file on a local disk, or responses.mode to off"
    try:
        yield
    except sqlite3.OperationalError as error:
        raise CacheError(f"the response cache {path} cannot be used: {error}; {way_out}") from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter by a damaged message of SQLite
        raise CacheError(f"the response cache {path} is damaged ({error}); delete it, or {way_out}") from error
    except OSError as error:
        raise CacheError(f"the response cache {path} cannot be made: {error.strerror}; {way_out}") from error


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only before the first table has it an effect
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.create_function("answer_digest", 2, digest_of, deterministic=True)
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        is_empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if version == 0 and is_empty:
            for statement in _TABLES:
                connection.execute(statement)
        elif version == 1:
            _log.info("the response cache %s gets checksums of its answers", path)
            for statement in _DIGESTS:
                connection.execute(statement)
        elif version != _VERSION:
            raise CacheError(f"{path} is no response cache of this version; give another responses.path, or delete it")
        _check_columns(connection, path)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _check_columns(connection: sqlite3.Connection, path: Path) -> None:
    """A version number alone makes no response cache."""
    for table, wanted in (("responses", {"key", "used", "content", "digest"}), ("totals", {"n_bytes"})):
        if {row[1] for row in connection.execute(f"PRAGMA table_info({table})")} != wanted:
            raise CacheError(f"{path} is no response cache of ours; give another responses.path")


def _add(connection: sqlite3.Connection, key: bytes, content: bytes, now: float) -> int:
    row = (key, now, content, digest_of(key, content))
    cursor = connection.execute("INSERT OR IGNORE INTO responses VALUES (?, ?, ?, ?)", row)
    return cursor.rowcount * (len(content) + ROW_BYTES)


def _remove(connection: sqlite3.Connection, key: bytes) -> int:
    found = connection.execute("SELECT length(content) FROM responses WHERE key = ?", (key,)).fetchone()
    if found is None:
        return 0
    connection.execute("DELETE FROM responses WHERE key = ?", (key,))
    return -(int(found[0] or 0) + ROW_BYTES)


def _evict(connection: sqlite3.Connection, max_bytes: int) -> bool:
    """Remove what was used longest ago, once all rows together take more than `max_bytes`; whether there was any."""
    if total_bytes(connection) <= max_bytes:
        return False
    total = _counted_bytes(connection)  # nothing that was paid for goes because of a damaged note
    query = f"SELECT key, length(content) FROM responses ORDER BY used LIMIT {_EVICTED_AT_ONCE}"
    while total > KEPT_SHARE * max_bytes:
        oldest = connection.execute(query).fetchall()
        if not oldest:
            break
        gone: list[tuple[bytes]] = []
        for key, n_bytes in oldest:
            gone.append((key,))
            total -= (n_bytes or 0) + ROW_BYTES
            if total <= KEPT_SHARE * max_bytes:
                break
        connection.executemany("DELETE FROM responses WHERE key = ?", gone)
    _set_total(connection, total)
    return True
