"""Answers that say by number what they are about: `1. yes`, `Excerpt 2: no`, `{"3": 1}`."""

from collections.abc import Iterable
from typing import TypeVar

from sae_auto_interp.prompting.json_in_text import Value, number_in

T = TypeVar("T")

SUBJECTS = frozenset({"excerpt", "excerpts", "text", "texts", "example", "item", "number", "numbers", "no", "nr"})
"""What may stand before a number that says which one is meant."""
_NAMES = SUBJECTS | {"verdict", "answer"}
_WITHIN_LABELS = " \t#_.*:`()[]"
_ENDS_OF_LABEL = ":.)=\t\uff1a"
_DASHES = (" - ", " – ", " — ")


def whole_number(text: str, largest: int) -> int | None:
    """The number from 1 to `largest` that a text is; None where it is another one, or none."""
    number = number_in(text)
    return int(number) if number is not None and number.is_integer() and 1 <= number <= largest else None


def label_number(text: str, n: int) -> int | None:
    """The number of a label such as `2`, `#2`, `Excerpt 2` or `text_2`; None where it is no such label."""
    if len(text) > 60 or not all(sign.isalnum() or sign in _WITHIN_LABELS for sign in text):
        return None
    words = "".join(sign if sign.isalnum() else " " for sign in text.casefold()).split()
    if not words or len(words) > 2 or (len(words) == 2 and words[0] not in _NAMES):
        return None
    return whole_number(words[-1], n)


def in_order(pairs: Iterable[tuple[int, T]], n: int) -> tuple[T, ...] | None:
    """The values by number, where the numbers are exactly 1 to n, each once."""
    listed = [*pairs]
    by_number = dict(listed)
    return tuple(by_number[i] for i in range(1, n + 1)) if len(listed) == len(by_number) == n else None


def numbered_items(value: Value, n: int) -> tuple[Value, ...] | None:
    """The items of an object whose keys are the numbers 1 to n, in their order."""
    if value.kind != "object" or len(value.items) != n:
        return None
    pairs = [(label_number(name, n), item) for name, item in zip(value.keys, value.items, strict=True)]
    return in_order([(number, item) for number, item in pairs if number is not None], n)


def split_label(line: str, n: int) -> tuple[int, str] | None:
    """The number that a line begins with, as a label, and the rest of the line as it stands."""
    ends = [place for sign in _ENDS_OF_LABEL if (place := line.find(sign, 0, 80)) >= 0]
    ends += [place + 1 for dash in _DASHES if (place := line.find(dash, 0, 80)) >= 0]
    if not ends:
        return None
    end = min(ends)
    number = label_number(line[:end].strip(" *_>-•`"), n)
    return None if number is None else (number, line[end + 1 :])
