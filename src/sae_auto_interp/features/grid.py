"""The grid of windows over token rows, shared by all features of a run.

Each row is cut into windows of `window` tokens from its first text position; a window counts only if every one of its
positions is text of one document, so no example ever shows padding, BOS or two documents. What holds for all features
(which runs of tokens occur elsewhere too, where each stretch of text begins and ends, which windows hold a token) is
computed once, when it is first asked for.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int32, Int64

from sae_auto_interp.errors import InputError
from sae_auto_interp.features.near_duplicates import FOUND_ONCE, default_run, repeated_runs
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
    run: int
    """Tokens in a row that make near-duplicates of two windows that share them."""

    @classmethod
    def over(cls, rows: TokenRows, window: int, run: int | None = None) -> "WindowGrid":
        """The grid of all rows; `run` None takes `texts.default_run`.

        Raises `InputError` when a row is shorter than one window.
        """
        first = int(bool((rows.documents[:, 0] == NO_DOCUMENT).all()))
        per_row = (rows.ctx_len - first) // window
        if per_row == 0:
            room = f"{rows.ctx_len - first} tokens of text"
            raise InputError(f"a window of {window} tokens does not fit rows of {room}; set features.window lower")
        cut = rows.documents[:, first : first + per_row * window].reshape(-1, window)
        owner = np.where((cut == cut[:, :1]).all(axis=1), cut[:, 0], NO_DOCUMENT)
        return cls(rows, window, first, per_row, owner.astype(np.int32), default_run(window) if run is None else run)

    @cached_property
    def n_usable(self) -> int:
        """Windows that count."""
        return int((self.documents != NO_DOCUMENT).sum())

    @cached_property
    def n_text_tokens(self) -> int:
        """Positions of the rows that carry text, within windows or not."""
        return self.rows.n_text_tokens

    @cached_property
    def is_repetitive(self) -> Bool[Array, " n_windows"]:
        """Whether a window has a run of tokens that occurs elsewhere in the rows: only such may be near-duplicates."""
        found = np.zeros(len(self.documents), dtype=np.bool_)
        starts = self.starts_of(np.arange(len(found)))
        for offset in range(self.window - self.run + 1):
            found |= self._runs[starts + offset] != FOUND_ONCE
        return found

    def runs_at(self, starts: Int64[Array, " n"]) -> Int32[Array, "n k"]:
        """Numbers of the runs of tokens in the windows that begin at some flat token indices, as in `texts`."""
        return self._runs_of_every_window[starts]

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

    def windows_with(self, token: int) -> Int64[Array, " n"]:
        """The windows that count and hold a token, in order."""
        windows, begins = self._windows_by_token
        return windows[begins[token] : begins[token + 1]] if 0 <= token < len(begins) - 1 else windows[:0]

    @cached_property
    def _windows_by_token(self) -> tuple[Int64[Array, " n"], Int64[Array, " n_tokens_plus_1"]]:
        """Windows, token by token, and where those of each token begin."""
        usable = np.flatnonzero(self.documents != NO_DOCUMENT)
        tokens = np.sort(self.tokens_at(self.starts_of(usable)), axis=1)
        is_new = np.ones(tokens.shape, dtype=np.bool_)
        np.not_equal(tokens[:, 1:], tokens[:, :-1], out=is_new[:, 1:])
        is_new &= tokens >= 0
        window, place = np.nonzero(is_new)
        held = tokens[window, place]
        begins = np.append(0, np.cumsum(np.bincount(held)))
        return usable[window[np.argsort(held, kind="stable")]], begins

    @cached_property
    def _runs_of_every_window(self) -> Int32[Array, "n_starts k"]:
        """As `_every_window`."""
        return np.lib.stride_tricks.sliding_window_view(self._runs, self.window - self.run + 1)

    @cached_property
    def _runs(self) -> Int32[Array, " n_starts"]:
        return repeated_runs(np.ascontiguousarray(self.rows.tokens).reshape(-1), self.run)

    @cached_property
    def _every_window(self) -> Int32[Array, "n_starts window"]:
        """The window that begins at each flat token index; a view, in which to look up one window is to copy it."""
        return np.lib.stride_tricks.sliding_window_view(np.ascontiguousarray(self.rows.tokens).reshape(-1), self.window)
