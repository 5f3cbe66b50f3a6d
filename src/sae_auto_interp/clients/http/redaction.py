"""Takes a secret out of what a server sent: out of decoded strings, whatever way its characters were written.

A character of the secret may stand for itself, or as an escape of JSON, of Python, of a URL or of HTML: a reply may
hold JSON as text, which is decoded once more when it is read. A beginning of the secret that is long enough is the
secret: servers cut what they quote. So are a long run of it anywhere, lines that it is broken into, and its base64
(`secret_forms`). Pieces of it side by side in a list (tokens with their log-probabilities, parts of
one text) are the secret too.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import cast

from sae_auto_interp.clients.http.secret_forms import SecretForms

REDACTED = "[redacted]"
_SIGNS = (b"\\", b"%", b"&#", b"\0", b'"token', b'"text"')
"""A body without any of these holds no secret but as it is: no escape, no wide character, no pieces."""
_PIECES = ("token", "text")
"""Fields in which lists hold pieces of one text."""


@dataclass(frozen=True)
class Redaction:
    """Knows how one secret may be written; `shortest` is how many of its first characters are enough."""

    secret: str
    shortest: int

    def of_text(self, text: str) -> str:
        """The text, with a mark in place of each occurrence."""
        spans = self._spans(text)
        return "".join(self._without(text, spans, [0, len(text)])) if spans else text

    def of_body(self, content: bytes) -> bytes:
        """A body without the secret; the same object where it was not there. JSON, lines of JSON, or any text."""
        if not self._forms.may_be_in(content) and not any(sign in content for sign in _SIGNS):
            return content
        try:
            decoded: object = json.loads(content)
            cleaned = self._of_json(decoded)
        except (ValueError, RecursionError):
            return self._of_lines(content)
        return content if cleaned == decoded else json.dumps(cleaned).encode("ascii")

    def _of_lines(self, content: bytes) -> bytes:
        text = content.decode("utf-8", "replace")
        cleaned = "\n".join(self._of_line(line) for line in text.split("\n"))
        return content if cleaned == text else cleaned.encode("utf-8")

    def _of_line(self, line: str) -> str:
        if line.startswith("{"):
            try:
                decoded: object = json.loads(line)
                cleaned = self._of_json(decoded)
                return line if cleaned == decoded else json.dumps(cleaned)
            except (ValueError, RecursionError):
                pass
        return self.of_text(line)

    def _of_json(self, value: object) -> object:
        if isinstance(value, str):
            return self.of_text(value)
        if isinstance(value, dict):
            fields = cast(dict[str, object], value)
            return {self.of_text(name): self._of_json(each) for name, each in fields.items()}
        if isinstance(value, list):
            values = cast(list[object], value)
            is_of_numbers = bool(values) and isinstance(values[0], int | float)  # bytes of a token, a vector
            return values if is_of_numbers else [self._of_json(each) for each in self._of_pieces(values)]
        return value

    def _of_pieces(self, values: list[object]) -> list[object]:
        """The list, its pieces without the secret that they make together."""
        pieces = [_piece(value) for value in values]
        whole = "".join(pieces)
        spans = self._spans(whole)
        if not spans:
            return values
        ends = [0]
        for piece in pieces:
            ends.append(ends[-1] + len(piece))
        cleaned = self._without(whole, spans, ends)
        return [_with_piece(value, text) for value, text in zip(values, cleaned, strict=True)]

    def _without(self, text: str, spans: Sequence[tuple[int, int]], ends: Sequence[int]) -> list[str]:
        """The pieces of a text between `ends`, without the spans; the mark stands where a span begins."""
        kept: list[str] = []
        for start, end in pairwise(ends):
            parts, at = list[str](), start
            for first, last in spans:
                if last <= start or first >= end:
                    continue
                parts += [text[at : max(at, first)], REDACTED if first >= start else ""]
                at = min(end, last)
            kept.append("".join([*parts, text[at:end]]))
        return kept

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Where it is, as long as it goes; none touches another."""
        if len(text) < self.shortest:
            return []
        return _joined([*self._escaped_spans(text), *self._forms.spans(text)])

    @cached_property
    def _forms(self) -> SecretForms:
        return SecretForms(self.secret, self.shortest)

    def _escaped_spans(self, text: str) -> list[tuple[int, int]]:
        spans: list[tuple[int, int]] = []
        if not self._may_be_in(text):
            return spans
        at = 0
        while (found := self._beginning.search(text, at)) is not None:
            at = found.end()
            for character in self.secret[self.shortest :]:
                following = _ways(character).match(text, at)
                if following is None:
                    break
                at = following.end()
            spans.append((found.start(), at))
        return spans

    def _may_be_in(self, text: str) -> bool:
        """A quick look: most texts are short, or hold neither the beginning as it is nor any escape."""
        return self.secret[: self.shortest] in text or any(sign in text for sign in ("\\", "%", "&#"))

    @cached_property
    def _beginning(self) -> re.Pattern[str]:
        return re.compile("".join(_written(character) for character in self.secret[: self.shortest]))


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in their order, with those that overlap or touch made one."""
    joined: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def _written(character: str) -> str:
    """A pattern for all ways in which one character is written; linear, as each way begins in its own way."""
    code, bare = ord(character), re.escape(character)
    escape = rf"\\{{1,8}}(?:u00{code:02x}|x{code:02x}|U0000{code:04x}|{code:03o})"
    own = rf"\\{{0,8}}{bare}" if character in "\\\"'/&" else bare
    return rf"(?:{own}|(?i:{escape}|%(?:25){{0,4}}{code:02x}|&\#(?:0{{0,4}}{code}|x0{{0,4}}{code:x});))"


_known_ways: dict[str, re.Pattern[str]] = {}


def _ways(character: str) -> re.Pattern[str]:
    if character not in _known_ways:
        _known_ways[character] = re.compile(_written(character))
    return _known_ways[character]


def _piece(value: object) -> str:
    if isinstance(value, str):
        return value
    fields = cast(dict[str, object], value) if isinstance(value, dict) else {}
    found = next((fields[name] for name in _PIECES if isinstance(fields.get(name), str)), "")
    return cast(str, found)


def _with_piece(value: object, text: str) -> object:
    if isinstance(value, str):
        return text
    if not isinstance(value, dict):
        return value
    fields = cast(dict[str, object], value)
    name = next((name for name in _PIECES if isinstance(fields.get(name), str)), None)
    if name is None or fields[name] == text:
        return fields
    shown_too: dict[str, object] = {"top_logprobs": [], "bytes": None}
    return {**fields, name: text, **shown_too}
