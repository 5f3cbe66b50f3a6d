"""Text from outside, made harmless to look at: the one way in which it reaches a terminal or a log.

What would move a cursor, turn the direction of writing or be no character at all is shown as a symbol. This escapes no
markup; that is for whoever writes markup.
"""

import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from io import TextIOBase
from typing import Any, cast

_BIDI_CONTROLS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_LINE_SEPARATORS = re.compile("[\u0085\u2028\u2029]")
_SYMBOLS = {"\n": "↵", "\r": "␍", "\t": "⇥", "\x7f": "␡"}


def visible(text: str) -> str:
    """The text on one line, with everything that cannot be seen replaced by a sign that can."""
    text = re.sub(r"[\x00-\x1f\x7f]", lambda match: _SYMBOLS.get(match[0], chr(0x2400 + ord(match[0]))), text)
    text = _LINE_SEPARATORS.sub("↵", text)
    text = re.sub(r"[\x80-\x9f]", "\ufffd", text)
    text = _BIDI_CONTROLS.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def visible_lines(text: str) -> str:
    """The same of a text that has lines of its own."""
    return text if text.isprintable() else "\n".join(visible(line) for line in text.split("\n"))


class VisibleStream(TextIOBase):
    """A text stream that shows what is written to it by `visible_lines`.

    rich, which writes control codes of its own, finds the stream itself by `rich_proxied_file`; what it prints must be
    made harmless before it is laid out (`terminal.VisibleConsole`).
    """

    def __init__(self, stream: Any) -> None:
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        self.rich_proxied_file.write(visible_lines(text))
        return len(text)

    def flush(self) -> None:
        self.rich_proxied_file.flush()

    def close(self) -> None:
        """The stream is its owner's to close."""

    def isatty(self) -> bool:
        return bool(self.rich_proxied_file.isatty())

    def fileno(self) -> int:
        return int(self.rich_proxied_file.fileno())

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return str(self.rich_proxied_file.encoding or "utf-8")  # one in memory has none

    @property
    def errors(self) -> str | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.rich_proxied_file.errors

    def __getattr__(self, name: str) -> object:
        return getattr(self.rich_proxied_file, name)


@contextmanager
def visible_output() -> Generator[None, None, None]:
    """Inside, nothing that is printed to standard output or standard error does more than be seen."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(Any, VisibleStream(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def counted(n: int, noun: str) -> str:
    """Return a number with its noun: `1 document`, `12,032 documents`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
