"""Values in the manner of JSON that stand in a text of any kind, such as the reply of a language model.

Read is what a person would read: trailing commas, semicolons, single and typographic quotes, True and None, words and
keys without quotes, comments, parentheses as brackets. A whole text that is one JSON string is read as what it holds.
Nothing is repaired: where a bracket holds something else than values with separators, it is no value, and what was
complete within it is found by itself.

The text is gone through once, with a stack of open brackets, so that the time grows with its length and no faster.
Length, depth, number of values and digits are bounded; what lies beyond is not read. No text is an error.

The escapes of JSON strings, undone in one pass over a text of any kind.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from sae_auto_interp.prompting.surroundings import COLONS, MAX_CHARACTERS, words_after, words_before

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "/": "/", "\\": "\\"} | {q: q for q in "\"'"}


def unescaped(text: str) -> str:
    r"""A text with JSON's escapes undone; what is no escape stays as it is.

    >>> unescaped(r"a\"b\n\u00e9 \alpha") == 'a"b\n\u00e9 \\alpha'
    True
    """
    return text if "\\" not in text else unescaped_with_places(text)[0]


def unescaped_with_places(text: str) -> tuple[str, list[int]]:
    """The text, and where each of its characters stood."""
    parts: list[str] = []
    places: list[int] = []
    at = 0
    while at < len(text):
        escape = text.find("\\", at)
        plain_end = len(text) if escape < 0 else escape
        parts.append(text[at:plain_end])
        places.extend(range(at, plain_end))
        if escape < 0:
            break
        character, at = _escape(text, escape)
        parts.append(character)
        places.extend([escape] * len(character))
    return "".join(parts), places


def _escape(text: str, at: int) -> tuple[str, int]:
    """The character that an escape stands for, and where the text goes on."""
    mark = text[at + 1 : at + 2]
    if mark == "u":
        code = _code(text, at)
        low = _code(text, at + 6) if code is not None and 0xD800 <= code < 0xDC00 else None
        if code is not None and low is not None and 0xDC00 <= low < 0xE000:
            return chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)), at + 12
        if code is not None:
            return chr(code), at + 6
    if mark in _ESCAPES:
        return _ESCAPES[mark], at + 2
    return "\\", at + 1


def _code(text: str, at: int) -> int | None:
    r"""The number of `\uXXXX`."""
    digits = text[at + 2 : at + 6]
    is_escape = text[at : at + 2] == "\\u" and len(digits) == 4 and all(d in "0123456789abcdefABCDEF" for d in digits)
    return int(digits, 16) if is_escape else None


MAX_VALUES = 20_000
"""Values of all kinds in a text; reading ends there, with what was complete."""


MAX_DEPTH = 32
"""Brackets within each other."""


MAX_DIGITS = 30
"""Characters of a number."""


Kind: TypeAlias = Literal["object", "list", "string", "word"]


_CLOSERS = {"{": "}", "[": "]", "(": ")"}


_QUOTES = {'"': '"', "'": "'", "“": "”“", "”": "”", "„": "“”", "‘": "’", "’": "’", "«": "»", "\uff02": "\uff02"}  # noqa: RUF001


_OPENING = re.compile(r"[{\[(]")


_END_OF_WORD = re.compile(r"[,;\]})\n{\[(]")


_END_OF_KEY = re.compile(r"[:,;\]})\n{\[(\"]")


_END_OF_STRING = {opening: re.compile(rf"[\\{closing}]") for opening, closing in _QUOTES.items()}


_NO_SPACE = re.compile(r"[^\s\ufeff]")


_SEPARATORS = ",;"


_BEHIND_STRINGS = f"{_SEPARATORS}{COLONS}]}})/#"


@dataclass(frozen=True, slots=True)
class Value:
    """A value with its place: text[begin:end], brackets and quotes included."""

    kind: Kind
    begin: int
    end: int
    text: str = ""
    """What a string holds, or a word or number as it was written."""
    keys: tuple[str, ...] = ()
    """Those of an object, one for each item; a key may be there twice."""
    items: tuple["Value", ...] = ()
    place: int = 0
    """Offset of the first character within a string's quotes, or of a word."""

    def get(self, key: str) -> "Value | None":
        """The last value of a key of an object, None of a list; case and spaces at a key's ends do not matter."""
        pairs = zip(reversed(self.keys), reversed(self.items), strict=False)  # a list has no keys
        return next((value for name, value in pairs if name.strip().casefold() == key), None)


@dataclass(frozen=True, slots=True)
class Found:
    """An object or list with what stands around it, which is looked at when it is asked for."""

    value: Value
    _text: str = field(repr=False)
    _begin: int = field(repr=False)
    _end: int = field(repr=False)
    _floor: int = field(repr=False)
    """Where the value before it ends."""

    @property
    def before(self) -> str:
        """The words before it in its sentence or, where it begins its line, a line above it that ends in a colon."""
        return words_before(self._text, self._begin, self._floor)

    @property
    def after(self) -> str:
        """The rest of its line, without what only sets it off."""
        return words_after(self._text, self._end)

    @property
    def stands_alone(self) -> bool:
        """It is the whole text, or a block, or begins a line or a sentence, or follows a label with a colon."""
        before = self.before
        return not before or before[-1] in COLONS


def found_values(text: str) -> list[Found]:
    """All outermost objects and lists in the order of the text; those within another are its items."""
    text = text[:MAX_CHARACTERS]
    plain, places = _held_by_string(text) or (text, None)
    found: list[Found] = []
    floor = 0
    for value, begin, end in _Reader(plain, places).values():
        found.append(Found(value, plain, begin, end, floor))
        floor = end
    return found


def number_in(text: str) -> float | None:
    """The finite number that a text is, digits of other scripts included; None where it is anything else.

    >>> number_in(" 3.0"), number_in("1e999"), number_in("3 dogs"), number_in("True")
    (3.0, None, None, None)
    """
    plain = unicodedata.normalize("NFKC", text.strip()[: MAX_DIGITS + 1])
    plain = "".join(str(unicodedata.decimal(sign)) if sign.isdecimal() else sign for sign in plain)
    if not plain or len(plain) > MAX_DIGITS or not set(plain) <= set("0123456789.+-eE"):
        return None
    try:
        number = float(plain)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None


@dataclass(slots=True)
class _Open:
    """A bracket that is not closed yet."""

    kind: Kind
    begin: int
    closer: str
    keys: list[str] = field(default_factory=list[str])
    items: list[Value] = field(default_factory=list[Value])
    wants: Literal["key", "colon", "value", "separator"] = "value"


@dataclass(slots=True)
class _Reader:
    text: str
    places: Sequence[int] | None
    """Where each character stood before escapes were undone."""
    at: int = 0
    stack: list[_Open] = field(default_factory=list[_Open])
    unclosed: dict[str, int] = field(default_factory=dict[str, int])
    """From where on no string of a kind of quote, or comment, is closed: looked for once."""
    n_values: int = 0

    def values(self) -> Iterator[tuple[Value, int, int]]:
        """Outermost values, with their offsets in the text that is read."""
        while self.n_values < MAX_VALUES:
            if not self.stack:
                opening = _OPENING.search(self.text, self.at)
                if opening is None:
                    return
                self.at = opening.start()
                self._open()
            complete = self._step()
            if complete is not None:
                yield from complete
        yield from self._give_up()

    def _step(self) -> list[tuple[Value, int, int]] | None:
        """Read what comes next in the innermost bracket; complete outermost values, where there are."""
        self._skip_spaces_and_comments()
        top = self.stack[-1]
        sign = self.text[self.at : self.at + 1]
        may_end = top.wants == "separator" or top.wants == ("key" if top.kind == "object" else "value")
        if sign == top.closer and may_end:
            return self._close()
        if top.wants == "separator" and sign and sign in _SEPARATORS:
            top.wants = "key" if top.kind == "object" else "value"
            self.at += 1
            return None
        if top.wants == "colon" and sign and sign in COLONS:
            top.wants = "value"
            self.at += 1
            return None
        if top.wants == "value" and sign in _CLOSERS and len(self.stack) < MAX_DEPTH:
            self._open()
            return None
        if top.wants in ("key", "value") and sign and sign not in _CLOSERS and self._read_leaf(top, sign):
            return None
        return self._give_up()

    def _open(self) -> None:
        self.n_values += 1
        sign = self.text[self.at]
        kind: Kind = "object" if sign == "{" else "list"
        wants: Literal["key", "value"] = "key" if kind == "object" else "value"
        self.stack.append(_Open(kind, self.at, _CLOSERS[sign], wants=wants))
        self.at += 1

    def _close(self) -> list[tuple[Value, int, int]] | None:
        top = self.stack.pop()
        self.at += 1
        value = self._made(top.kind, top.begin, self.at, "", tuple(top.keys), tuple(top.items))
        if not self.stack:
            return [(value, top.begin, self.at)]
        self.stack[-1].items.append(value)
        self.stack[-1].wants = "separator"
        return None

    def _give_up(self) -> list[tuple[Value, int, int]]:
        """No open bracket is a value; what is complete within them is. Reading goes on from here."""
        complete = [item for top in self.stack for item in top.items if item.kind in ("object", "list")]
        self.stack.clear()
        return [(item, self._read_place(item.begin), self._read_place(item.end)) for item in complete]

    def _read_leaf(self, top: _Open, sign: str) -> bool:
        """A key, string or word; False where there is none."""
        self.n_values += 1
        begin = self.at
        text = (
            self._string(sign) if sign in _QUOTES else self._word(_END_OF_KEY if top.wants == "key" else _END_OF_WORD)
        )
        if text is None:
            return False
        if top.wants == "key":
            top.keys.append(text)
            top.wants = "colon"
        else:
            kind: Kind = "string" if sign in _QUOTES else "word"
            top.items.append(self._made(kind, begin, self.at, text))
            top.wants = "separator"
        return True

    def _string(self, opening: str) -> str | None:
        """What a string holds; None, and one step on, where it never ends."""
        self.at += 1
        begin, end_of_string = self.at, _END_OF_STRING[opening]
        at = begin if begin < self.unclosed.get(opening, len(self.text) + 1) else len(self.text)
        while (found := end_of_string.search(self.text, at)) is not None:
            at = found.end() + (found[0] == "\\")
            if found[0] != "\\" and self._may_follow_string(at):
                self.at = at
                return unescaped(self.text[begin : found.start()])
        self.unclosed.setdefault(opening, begin)
        return None

    def _may_follow_string(self, at: int) -> bool:
        """Whether a quote before this place may be a closing one: models forget to escape those within a string."""
        found = _NO_SPACE.search(self.text, at)
        return found is None or found[0] in _BEHIND_STRINGS

    def _word(self, end_of_word: "re.Pattern[str]") -> str | None:
        begin = self.at
        found = end_of_word.search(self.text, begin)
        end = found.start() if found else len(self.text)
        word = self.text[begin:end]
        comments = [place for mark in (" //", "\t//", " # ", "\t# ") if (place := word.find(mark)) >= 0]
        word = word[: min(comments, default=len(word))].rstrip()
        self.at = begin + len(word)
        return word or None

    def _skip_spaces_and_comments(self) -> None:
        while True:
            found = _NO_SPACE.search(self.text, self.at)
            self.at = found.start() if found else len(self.text)
            if self._is_comment_in_stars():
                self.at = self.text.find("*/", self.at + 2) + 2
            elif self.text.startswith("//", self.at) or self.text.startswith("# ", self.at):
                end = self.text.find("\n", self.at)
                self.at = end if end >= 0 else len(self.text)
            else:
                return

    def _is_comment_in_stars(self) -> bool:
        """Whether one begins here and is closed."""
        if not self.text.startswith("/*", self.at) or self.at >= self.unclosed.get("/*", len(self.text)):
            return False
        if self.text.find("*/", self.at + 2) < 0:
            self.unclosed["/*"] = self.at
            return False
        return True

    def _made(
        self, kind: Kind, begin: int, end: int, text: str, keys: tuple[str, ...] = (), items: tuple[Value, ...] = ()
    ) -> Value:
        place = begin + (kind == "string")
        if self.places is not None:
            begin, end, place = self.places[begin], self.places[end - 1] + 1, self.places[place]
        return Value(kind, begin, end, text, keys, items, place)

    def _read_place(self, place: int) -> int:
        """Offset in the text that is read, of an offset of the text that was given."""
        return place if self.places is None else _first_at_least(self.places, place)


def _held_by_string(text: str) -> tuple[str, list[int]] | None:
    """What the text holds where all of it is one JSON string, and where each character stood; a bracket is in it."""
    stripped = text.strip()
    if len(stripped) < 4 or stripped[0] != '"' or stripped[-1] != '"' or not _OPENING.search(stripped):
        return None
    reader = _Reader(stripped, None)
    if reader._string('"') is None or reader.at != len(stripped):  # pyright: ignore[reportPrivateUsage]
        return None
    first = text.index('"') + 1
    plain, places = unescaped_with_places(stripped[1:-1])
    return plain, [first + place for place in places]


def _first_at_least(places: Sequence[int], place: int) -> int:
    low, high = 0, len(places)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if places[middle] < place else (low, middle)
    return low
