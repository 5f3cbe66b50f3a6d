"""A measured program's side of the agreement with `side_by_side`: settings and a folder in, one line out."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import facts

RESULT = "RESULT "
"""Begins the line of the answer: libraries print to standard output too."""

Measure = Callable[[dict[str, Any], Path], dict[str, Any]]


def answer(measure: Measure) -> None:
    """Run `measure(settings, folder)` with the command line's settings, and print what it returns."""
    settings, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
    result = measure(settings, folder)
    print(RESULT + json.dumps({"machine": facts(), "result": result}), flush=True)


def parsed(output: str) -> dict[str, Any]:
    """The answer in a program's output; raises `ValueError` when it gave none."""
    found = [line for line in output.splitlines() if line.startswith(RESULT)]
    if not found:
        raise ValueError("the program ended without a result")
    return json.loads(found[-1].removeprefix(RESULT))
