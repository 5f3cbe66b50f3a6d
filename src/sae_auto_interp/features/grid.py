"""The grid of windows over token rows, shared by all features of a run.

Each row is cut into windows of `window` tokens from its first text position; a window counts only if every one of its
positions is text of one document, so no example ever shows padding, BOS or two documents.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, Int64

from sae_auto_interp.errors import InputError
from sae_auto_interp.types import NO_DOCUMENT, Array, TokenRows


@dataclass(frozen=True, slots=True)
class WindowGrid:
    """Windows are numbered row by row; `documents[w]` is NO_DOCUMENT where window w does not count."""

    rows: TokenRows
    window: int
    first_position: int
    """Where windows begin within a row: 1 when every row starts with BOS."""
    per_row: int
    documents: Int32[Array, " n_windows"]

    @classmethod
    def over(cls, rows: TokenRows, window: int) -> "WindowGrid":
        """The grid of all rows; raises `InputError` when a row is shorter than one window."""
        first = int(bool((rows.documents[:, 0] == NO_DOCUMENT).all()))
        per_row = (rows.ctx_len - first) // window
        if per_row == 0:
            room = f"{rows.ctx_len - first} tokens of text"
            raise InputError(f"a window of {window} tokens does not fit rows of {room}; set features.window lower")
        cut = rows.documents[:, first : first + per_row * window].reshape(-1, window)
        owner = np.where((cut == cut[:, :1]).all(axis=1), cut[:, 0], NO_DOCUMENT)
        return cls(rows, window, first, per_row, owner.astype(np.int32))

    @property
    def n_usable(self) -> int:
        """Windows that count."""
        return int((self.documents != NO_DOCUMENT).sum())

    def windows_of(self, locations: Int64[Array, " n"]) -> Int64[Array, " n"]:
        """The window that each flat token index lies in, whether it counts or not; -1 beyond the grid."""
        row, position = np.divmod(locations, self.rows.ctx_len)
        column = (position - self.first_position) // self.window
        inside = (position >= self.first_position) & (column < self.per_row)
        return np.where(inside, row * self.per_row + column, -1)

    def place(self, window: int) -> tuple[int, int]:
        """Row and first position of a window."""
        row, column = divmod(window, self.per_row)
        return row, self.first_position + column * self.window

    def tokens(self, windows: Int64[Array, " n"]) -> Int32[Array, "n window"]:
        """Token ids of some windows."""
        row, column = np.divmod(windows, self.per_row)
        start = self.first_position + column * self.window
        return self.rows.tokens[row[:, None], start[:, None] + np.arange(self.window)]
