"""What a language model's reply says: verdicts in a list, numbers of excerpts, or one number.

A reply that holds no answer of the form asked for is read as None, which becomes a Failure; it is never guessed at.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

LocatedVerdicts: TypeAlias = Sequence[tuple[bool, int | None]]
"""Verdicts, each with the offset of its first character in the reply, where it has one character or word there."""

_LIST = re.compile(r"\[[^\[\]]*\]")
_WORD = re.compile(r"(?:^|(?<=[\[,]))\s*[\"']?\s*([^,\[\]\"']*?)\s*[\"']?\s*(?=,|\]|$)")
_WORDS = {"1": True, "0": False, "true": True, "false": False, "yes": True, "no": False}
_NUMBERS = re.compile(r"\d+(?:\s*(?:,|and|&|;)+\s*\d+)*")
_NUMBER = re.compile(r"(?<![\w.])\d+(?![\w]|\.\d)")


@dataclass(frozen=True, slots=True)
class Reading:
    """How the answers to a task are asked for and read."""

    schema: Callable[[int], str] | None
    """JSON schema of an answer about n examples; None where the task wants plain text."""
    read: Callable[[str, int], LocatedVerdicts | None]
    missing: str
    """What a reply without an answer lacks."""
    has_places: bool = True
    """Whether each verdict stands at a place of its own, whose probability can be known."""


def parse_verdicts(reply: str, n: int) -> list[bool] | None:
    """The last list of exactly `n` verdicts in a reply; None when there is none.

    Reads `{"verdicts": [1, 0]}`, `Sure: [1, 0]`, `[True, False]` and lists broken over lines.
    """
    located = located_verdicts(reply, n)
    return None if located is None else [matches for matches, _ in located]


def located_verdicts(reply: str, n: int) -> LocatedVerdicts | None:
    """`parse_verdicts` with the place of each verdict."""
    for listed in reversed(list(_LIST.finditer(reply))):
        words = list(_WORD.finditer(reply, listed.start() + 1, listed.end() - 1))
        if len(words) == n and all(word[1].lower() in _WORDS for word in words):
            return [(_WORDS[word[1].lower()], word.start(1)) for word in words]
    return None


def numbered_verdicts(reply: str, n: int) -> LocatedVerdicts | None:
    """Yes for the excerpts whose numbers are listed, no for the others: `2, 5 and 7`, or `None`.

    The last line that holds numbers, or "none", counts. Numbers that no excerpt has, and repeated ones, are ignored.
    """
    for line in reversed(reply.splitlines()):
        listed = list(_NUMBERS.finditer(line))
        if listed:
            chosen = {int(number) for found in listed for number in re.findall(r"\d+", found[0])}
            return [(i in chosen, None) for i in range(1, n + 1)]
        if re.search(r"\bnone\b", line, re.IGNORECASE):
            return [(False, None)] * n
    return None


def parse_choice(reply: str, n: int) -> int | None:
    """The place, from 0, of the excerpt whose number is chosen: that of `{"choice": 3}`, else the only number there is.

    >>> parse_choice('{"choice": 3}', 5), parse_choice("Excerpt 3.", 5), parse_choice("2 or 3", 5)
    (2, 2, None)
    """
    named = re.findall(r"[\"']?choice[\"']?\s*[:=]\s*[\"']?(\d+)", reply)
    numbers = {int(number) for number in (named[-1:] or _NUMBER.findall(reply))}
    if len(numbers) != 1:
        return None
    (number,) = numbers
    return number - 1 if 1 <= number <= n else None


@cache
def verdicts_schema(n: int) -> str:
    verdicts = {"type": "array", "items": {"type": "integer", "enum": [0, 1]}, "minItems": n, "maxItems": n}
    return _object_schema("verdicts", verdicts)


@cache
def choice_schema(n: int) -> str:
    return _object_schema("choice", {"type": "integer", "enum": list(range(1, n + 1))})


def _object_schema(name: str, value: object) -> str:
    schema = {"type": "object", "properties": {name: value}, "required": [name], "additionalProperties": False}
    return json.dumps(schema, sort_keys=True)


VERDICTS = Reading(verdicts_schema, located_verdicts, "no list of {n} verdicts")
NUMBERS = Reading(None, numbered_verdicts, "neither numbers of excerpts nor None", has_places=False)
READINGS = {"saebench": NUMBERS}
"""Tasks whose answers are read otherwise than as a list of verdicts."""
