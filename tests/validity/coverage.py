"""Which judges are put to which scorers: read off the tests themselves, so that a lost case is a gap.

`pytest.mark.validity(*judges, scorer=...)` on a test says what it covers. Where the test has a parameter `name`, that
is the scorer, up to the first sign that is no letter; where it has a parameter `mind`, that is the judge.
"""

import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

JUDGES = (
    "oracle", "constant", "guessing", "counting_marks", "by_position", "by_length", "hidden", "erring", "breaking",
)  # fmt: skip
"""Also where a kind of judge can do nothing with a scorer: then a test says why."""


def covered() -> set[tuple[str, str]]:
    """(scorer, judge) of all cases in the modules of this folder."""
    modules = [import_module(f"tests.validity.{path.stem}") for path in Path(__file__).parent.glob("test_*.py")]
    tests = [each for module in modules for each in vars(module).values() if isinstance(each, FunctionType)]
    return {case for test in tests for case in _cases(getattr(test, "pytestmark", []))}


def _cases(marks: list[pytest.Mark]) -> Iterator[tuple[str, str]]:
    for mark in marks:
        if mark.name == "validity":
            for name, mind in _parameters(marks):
                scorer = mark.kwargs.get("scorer") or re.split(r"\W", name)[0]
                yield from ((scorer, judge) for judge in mark.args or [mind])


def _parameters(marks: list[pytest.Mark]) -> list[tuple[str, str]]:
    """(name, name of the mind) of each set of parameters; empty where the test has no such parameter."""
    found = [("", "")]
    for mark in marks:
        if mark.name == "parametrize":
            sets = _sets(*mark.args)
            found = [(s.get("name", n), getattr(s.get("mind"), "__name__", m)) for n, m in found for s in sets]
    return found


def _sets(names: str | tuple[str, ...], values: Sequence[Any]) -> list[dict[str, Any]]:
    if isinstance(names, str):
        return [{names: value} for value in values]
    return [dict(zip(names, each, strict=True)) for each in values]
