"""Functions and files that a reader can take in."""

import ast
from functools import cache
from pathlib import Path

from tests.arch.source_files import name_of, python_files, tree_of

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
LONGER_FUNCTIONS: dict[str, str] = {}
"""`path::function` -> why it is better in one piece."""
LONGER_FILES: dict[str, str] = {}
"""`path` -> why it is better in one piece."""


@cache
def functions_of(path: Path) -> list[tuple[str, int]]:
    """Name and length in lines, decorators aside, of every function in a file."""
    nodes = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [(node.name, (node.end_lineno or node.lineno) - node.lineno + 1) for node in nodes]


def test_no_file_is_too_long() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}
    too_long = {name: n for name, n in lengths.items() if n > MAX_FILE_LINES and name not in LONGER_FILES}
    assert not too_long


def test_no_function_is_too_long() -> None:
    lengths = {f"{name_of(path)}::{name}": n for path in python_files() for name, n in functions_of(path)}
    too_long = {name: n for name, n in lengths.items() if n > MAX_FUNCTION_LINES and name not in LONGER_FUNCTIONS}
    assert not too_long


def test_exceptions_are_still_needed() -> None:
    lengths = {f"{name_of(path)}::{name}": n for path in python_files() for name, n in functions_of(path)}
    assert not [name for name in LONGER_FUNCTIONS if lengths.get(name, 0) <= MAX_FUNCTION_LINES]
    files = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}
    assert not [name for name in LONGER_FILES if files.get(name, 0) <= MAX_FILE_LINES]
