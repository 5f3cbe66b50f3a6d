"""A digest of each row of results: SQLite notices damage of its own structure, and no flipped bit of what it holds.

Rows of older results get theirs when a writer opens them: what was damaged before that cannot be told.
"""

import sqlite3
from collections.abc import Sequence
from hashlib import blake2b

DIGESTED: dict[str, tuple[str, ...]] = {
    "info": ("key", "value"),
    "records": ("module_path", "feature_index", "content"),
    "explanations": ("feature", "explainer", "explanation_id", "content"),
    "failures": ("unit", "content"),
    "scores": ("feature", "scorer", "explanation_id", "judge", "content"),
    "finished": ("stage", "unit"),
    "reopened": ("stage", "unit", "n"),
}
"""The columns of each table that a row's digest covers: all but the digest."""
_BYTES = 16

STATEMENTS = tuple(
    statement
    for table, columns in DIGESTED.items()
    for statement in (
        f"ALTER TABLE {table} ADD COLUMN digest BLOB",
        f"UPDATE {table} SET digest = row_digest('{table}', {', '.join(columns)})",
    )
)
"""The step that adds them; needs `add_function`."""


def row_digest(table: str, *values: object) -> bytes:
    """Return the digest of the values in the order of `DIGESTED`; other types than text, number, bytes count by
    name."""
    digest = blake2b(table.encode(), digest_size=_BYTES)
    for value in values:
        content = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
        digest.update(f"\0{type(value).__name__} {len(content)} ".encode())
        digest.update(content)
    return digest.digest()


def add_function(connection: sqlite3.Connection) -> None:
    """Let SQL call `row_digest`."""
    connection.create_function("row_digest", -1, row_digest, deterministic=True)


def is_as_written(table: str, row: Sequence[object]) -> bool:
    """Whether the digest at the end of a row is that of the row."""
    return row[-1] == row_digest(table, *row[:-1])
