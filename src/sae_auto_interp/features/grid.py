"""The grid of windows over token rows, shared by all features of a run.

Each row is cut into windows of `window` tokens from its first text position; a window counts only if every one of its
positions is text of one document, so no example ever shows padding, BOS or two documents. What holds for all features
(which windows repeat a text, where each run of text begins and ends) is computed once, when it is first asked for.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int32, Int64

from sae_auto_interp.errors import InputError
from sae_auto_interp.features.texts import first_with_same_tokens
from sae_auto_interp.types import NO_DOCUMENT, Array, TokenRows


@dataclass(frozen=True, slots=True)
class TextRuns:
    """The longest stretches of positions that lie in one row and one document (or in none), in order."""

    begins: Int64[Array, " n_runs"]
    """Flat token index of the first position."""
    ends: Int64[Array, " n_runs"]
    """One past the last position."""
    documents: Int32[Array, " n_runs"]

    def of(self, locations: Int64[Array, " n"]) -> Int64[Array, " n"]:
        """The run that each flat token index lies in."""
        return np.searchsorted(self.begins, locations, side="right") - 1


@dataclass(frozen=True)
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

    @cached_property
    def n_usable(self) -> int:
        """Windows that count."""
        return int((self.documents != NO_DOCUMENT).sum())

    @cached_property
    def n_text_tokens(self) -> int:
        """Positions of the rows that carry text, within windows or not."""
        return self.rows.n_text_tokens

    @cached_property
    def text_ids(self) -> Int64[Array, " n_windows"]:
        """For each window the first window with the same tokens: itself, where no window before it has them."""
        first, end = self.first_position, self.first_position + self.per_row * self.window
        return first_with_same_tokens(self.rows.tokens[:, first:end].reshape(-1, self.window))

    @cached_property
    def runs(self) -> TextRuns:
        """The runs of text of all rows."""
        documents = np.ascontiguousarray(self.rows.documents).reshape(-1)
        is_begin: Bool[Array, " n_positions"] = np.empty(len(documents), dtype=np.bool_)
        np.not_equal(documents[1:], documents[:-1], out=is_begin[1:])
        is_begin[:: self.rows.ctx_len] = True
        begins = np.flatnonzero(is_begin)
        return TextRuns(begins, np.append(begins[1:], len(documents)), documents[begins])

    def windows_of(self, locations: Int64[Array, " n"]) -> Int64[Array, " n"]:
        """The window that each flat token index lies in, whether it counts or not; -1 beyond the grid."""
        if self.per_row * self.window == self.rows.ctx_len:  # no remainder: windows follow each other without gaps
            return locations // self.window
        row = locations // self.rows.ctx_len
        position = locations - row * self.rows.ctx_len - self.first_position
        column = position // self.window
        return np.where((position >= 0) & (column < self.per_row), row * self.per_row + column, -1)

    def usable(self, windows: Int64[Array, " n"]) -> Int64[Array, " m"]:
        """Those of some windows that count; -1 never does."""
        return windows[(windows >= 0) & (self.documents[windows] != NO_DOCUMENT)]

    def starts_of(self, windows: Int64[Array, " n"]) -> Int64[Array, " n"]:
        """The flat token index at which each window begins."""
        row = windows // self.per_row
        return row * self.rows.ctx_len + self.first_position + (windows - row * self.per_row) * self.window

    def tokens_at(self, starts: Int64[Array, " n"]) -> Int32[Array, "n window"]:
        """Token ids of the windows, on the grid or not, that begin at some flat token indices."""
        return self._every_window[starts]

    @cached_property
    def _every_window(self) -> Int32[Array, "n_starts window"]:
        """The window that begins at each flat token index; a view, in which to look up one window is to copy it."""
        return np.lib.stride_tricks.sliding_window_view(np.ascontiguousarray(self.rows.tokens).reshape(-1), self.window)
