"""The table `spending`: sums of what was asked and paid, by stage, feature and model."""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import astuple

from sae_auto_interp.types.spending import Account, Spent

_SUMS = ("n_paid", "n_cached", "n_lost", "prompt_tokens", "completion_tokens", "lost_tokens", "usd", "n_uncounted")
"""The fields of `Spent`, in their order."""
_ADD = (
    f"INSERT INTO spending (stage, feature, model, {', '.join(_SUMS)}) VALUES ({', '.join('?' * (3 + len(_SUMS)))}) "
    f"ON CONFLICT DO UPDATE SET {', '.join(f'{name} = {name} + excluded.{name}' for name in _SUMS)}"
)


def add_spending(connection: sqlite3.Connection, changes: Mapping[Account, Spent]) -> None:
    """Add to the sums; the caller holds the transaction."""
    connection.executemany(_ADD, [(*astuple(account), *astuple(spent)) for account, spent in changes.items()])


def spending_of(rows: Iterable[tuple[object, ...]]) -> dict[Account, Spent]:
    """Rows of `SELECT *` as values; those of an older table end before the last column.

    Raises ValueError for what is no number.
    """
    return {Account(*map(str, row[:3])): Spent(*map(_number, row[3:])) for row in rows}  # pyright: ignore[reportArgumentType]


def _number(value: object) -> int | float:
    if not isinstance(value, int | float):
        raise ValueError(f"{value!r} is spent")
    return value
