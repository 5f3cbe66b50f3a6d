"""The line of a reply that was asked for: behind a mark such as `[EXPLANATION]:`, without fences, emphasis or chatter.

A mark counts where it begins a line or a sentence; where none does, one that is mentioned inside a sentence still does,
if it stands in brackets. Of several the last counts. Models leave the brackets out, write small letters, headings or
`Final explanation:`, put the line into a fence or the text on the line below; all of that is read.

Everything is split and stripped, in time linear in the reply.
"""

import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

WORD = "explanation"
MOST_CHARACTERS = 1_000_000
"""Characters of a reply that are read, from its end."""
_FENCE = "```"
_DECORATION = " \t>#*_`-•\"'"
_EMPHASIS = ("**", "__", "*", "_", "`")
_ENDS_A_CLAUSE = ".!?:;,)]>*-–—\"'`"
_MOST_WORDS_OF_A_LABEL = 6
_LABEL_CHARACTERS = 120
"""Characters of a line in which a label without brackets begins, and that are looked at around a mark."""
_SMALL = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


@dataclass(frozen=True, slots=True)
class Found:
    """A text behind a mark."""

    text: str
    start: int
    """Where its mark begins in the reply."""


def marked_line(reply: str) -> Found | None:
    r"""What stands behind the last mark of the best kind that there is; None without a mark or a text behind it.

    >>> marked_line("**[EXPLANATION]:** dogs").text, marked_line("Final explanation: dogs\n\nI hope this helps!").text
    ('dogs', 'dogs')
    """
    skipped = max(0, len(reply) - MOST_CHARACTERS)
    lines = list(_lines(reply[skipped:]))
    for kind in (_in_brackets, partial(_in_brackets, is_mention=True), _alone, _in_label):
        marks = [(number, mark) for number, line in enumerate(lines) for mark in _marks(line.text, kind)]
        if marks:
            number, (at, end) = marks[-1]
            text = _behind(lines, number, at, end)
            return Found(text, skipped + lines[number].start + at) if text else None
    return None


def first_line(reply: str) -> str:
    """The first line that says something: no fence, and nothing that only leads up to it ("Sure! Here it is:")."""
    text = ""
    for line in _lines(reply[:MOST_CHARACTERS]):
        if not line.is_fence and plain(line.text):
            text = plain(line.text)
            if not (text.endswith(":") or _is_exclamation(text)):
                break
    return text


def plain(text: str) -> str:
    r"""A line without the marks of emphasis and code around it, and without bold inside.

    >>> plain("**dogs** and *cats*"), plain("`dogs`"), plain("*args and **kwargs")
    ('dogs and *cats*', 'dogs', '*args and **kwargs')
    """
    text = _without_bold(text.strip())
    for sign in _EMPHASIS:
        inside = text[len(sign) : -len(sign)]
        if len(text) > 2 * len(sign) and text.startswith(sign) and text.endswith(sign):
            is_one = sign not in inside and not inside[0].isspace() and not inside[-1].isspace()
            text = inside if is_one else text
    return text


def in_small_letters(text: str) -> str:
    """The text with A to Z made small, and as long as before: `lower` makes two of some letters."""
    return text.translate(_SMALL)


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    start: int
    is_fence: bool
    is_fenced: bool
    """Whether it stands between fences."""


Kind = Callable[[str, int], int | None]
"""Where the text behind a mark begins, given a line and where the word stands in it; None where it is no mark."""


def _lines(text: str) -> Iterator[_Line]:
    start, is_open = 0, False
    for line in text.splitlines(keepends=True):
        bare = line.strip(" \t\r\n>")
        is_fence = bare.startswith(_FENCE) and not bare.strip("`").strip().count(" ")
        yield _Line(line, start, is_fence, is_open)
        if line.count(_FENCE) % 2:
            is_open = not is_open
        start += len(line)


def _marks(line: str, kind: Kind) -> Iterator[tuple[int, int]]:
    """Where marks of a kind begin in a line, and where the text behind them does."""
    small = in_small_letters(line)
    at = small.find(WORD)
    while at >= 0:
        end = kind(line, at)
        if end is not None:
            yield at, end
        at = small.find(WORD, at + len(WORD))


def _in_brackets(line: str, at: int, *, is_mention: bool = False) -> int | None:
    """`[EXPLANATION]:`, also in bold; a mention stands inside a sentence ("the [EXPLANATION]: tag")."""
    end = at + len(WORD)
    if at == 0 or line[at - 1] not in "[<" or line[end : end + 1] not in ("]", ">"):
        return None
    before = line[max(0, at - _LABEL_CHARACTERS) : at - 1].rstrip(" \t*_`>#")
    has_colon = _colon(line, end + 1)
    begins = not before.strip(_DECORATION) or (before[-1] in _ENDS_A_CLAUSE and has_colon is not None)
    if begins:
        return end + 1 if has_colon is None else has_colon
    return has_colon if is_mention else None


def _alone(line: str, at: int) -> int | None:
    """`Explanation:` at the beginning of a line, and nothing else before the colon; or a heading."""
    before, end = line[: min(at, _LABEL_CHARACTERS)], at + len(WORD)
    if at > _LABEL_CHARACTERS or before.strip(_DECORATION):
        return None
    is_heading = "#" in before or before.strip().endswith(("**", "__"))
    if is_heading and not line[end:].strip(_DECORATION + "\r\n"):
        return end
    return _colon(line, end)


def _in_label(line: str, at: int) -> int | None:
    """`Final explanation:`, `Here is the explanation:`, `Explanation of neuron 2:`: a few words up to a colon."""
    colon = line.find(":", 0, _LABEL_CHARACTERS)
    words = line[:colon].strip(_DECORATION).lower().split() if colon > at else []
    if not words or len(words) > _MOST_WORDS_OF_A_LABEL or not (words[0].startswith(WORD) or words[-1] == WORD):
        return None
    return _colon(line, colon)


def _colon(line: str, at: int) -> int | None:
    """Where the text begins behind a colon that stands here, in bold or not."""
    rest = line[at : at + 20]
    bare = rest.lstrip(" \t*_`\"'")
    return at + len(rest) - len(bare) + 1 if bare[:1] in (":", "\N{FULLWIDTH COLON}") else None


def _behind(lines: Sequence[_Line], number: int, at: int, end: int) -> str:
    """The text on the mark's line, or else the next line that is no fence."""
    line = lines[number]
    text = _closed(line.text[:at].rstrip(" [<"), line.text[at:end], line.text[end:].strip())
    text = _without_tag(_without_fence(text, line.is_fenced or _FENCE in line.text[:at]), line.text[:at])
    if text.strip("*_ "):
        return plain(text)
    below = (plain(later.text.strip().removeprefix("- ")) for later in lines[number + 1 :] if not later.is_fence)
    return next(filter(None, below), "")


def _closed(before: str, mark: str, text: str) -> str:
    """The text without the end of an emphasis that began before its mark."""
    for sign in _EMPHASIS[:-1]:
        if before.endswith(sign):
            if sign in mark:
                return text
            if text.startswith(sign):
                return text[len(sign) :].strip()
            return text[: -len(sign)].rstrip() if text.endswith(sign) and text.count(sign) % 2 else text
    return text


def _without_tag(text: str, before: str) -> str:
    """The text without the end of a tag that was opened before its mark: `<answer>[EXPLANATION]: dogs</answer>`."""
    inside, closing, name = text.rpartition("</")
    return inside.rstrip() if closing and f"<{name}" in before and name.endswith(">") else text


def _without_fence(text: str, is_fenced: bool) -> str:
    """The text up to where a fence closes, if one is open here."""
    if is_fenced:
        return text.partition(_FENCE)[0].strip()
    if text.startswith(_FENCE):
        return text.strip("`").partition(_FENCE)[0].strip()
    return text


def _without_bold(text: str) -> str:
    """The text without pairs of `**` that hug what they stress; operators and pointers have spaces or no partner."""
    parts = text.split("**")
    if len(parts) % 2 == 0 or len(parts) == 1:
        return text
    stressed = parts[1::2]
    hugs = all(part and not part[0].isspace() and not part[-1].isspace() for part in stressed)
    return "".join(parts) if hugs else text


def _is_exclamation(line: str) -> bool:
    """`Sure!`, `Of course!`"""
    return line.endswith("!") and len(line.split()) <= 3
