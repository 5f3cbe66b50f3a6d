"""The source tree as the architecture tests see it: files, their folders, and what each imports when.

Each file is parsed once for all rules, so a rule is one test that loops over files and lists all offenders.
"""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "sae_auto_interp"


@dataclass(frozen=True)
class Import:
    """One imported module. `lazy`: inside a function. `typing_only`: under `if TYPE_CHECKING:`."""

    module: str
    line: int
    lazy: bool
    typing_only: bool


def package_files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "assets" not in path.relative_to(PACKAGE).parts)


def python_files() -> list[Path]:
    """Every Python file that people read: the package, its tests, scripts, benchmarks and examples."""
    return sorted(path for path in committed_files() if path.suffix == ".py")


def committed_files() -> list[Path]:
    """Files that git tracks, or would with the next `git add .`."""
    listed = _listed_by_git(ROOT)
    if listed is None:
        pytest.skip("not a git checkout, so there is no list of committed files")
    return sorted(ROOT / name for name in listed if (ROOT / name).is_file())


@cache
def _listed_by_git(root: Path) -> tuple[str, ...] | None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return tuple(filter(None, done.stdout.split("\0"))) if done.returncode == 0 else None


def tree_of(path: Path) -> ast.Module:
    """The file parsed; it is shared, so nothing may change it."""
    return _parsed(path.read_text(encoding="utf-8"))


@cache
def _parsed(source: str) -> ast.Module:
    return ast.parse(source)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def folder_of(path: Path) -> str:
    """`scorers` for src/sae_auto_interp/scorers/detection.py; `types` for a module of the top level."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports_of(path: Path) -> tuple[Import, ...]:
    return _imports(path.read_text(encoding="utf-8"))


@cache
def _imports(source: str) -> tuple[Import, ...]:
    return tuple(_walk(_parsed(source), lazy=False, typing_only=False))


def _walk(node: ast.AST, lazy: bool, typing_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, lazy, typing_only) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            # `from sae_auto_interp import types` imports sae_auto_interp.types
            names = [f"{child.module}.{alias.name}" for alias in child.names]
            yield from (Import(name, child.lineno, lazy, typing_only) for name in names)
        elif isinstance(child, ast.If) and _tests_type_checking(child.test):
            for statement in child.body:
                yield from _walk(ast.Module([statement], []), lazy, typing_only=True)
            for statement in child.orelse:
                yield from _walk(ast.Module([statement], []), lazy, typing_only)
        else:
            in_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _walk(child, lazy or in_function, typing_only)


def _tests_type_checking(test: ast.expr) -> bool:
    return isinstance(test, ast.Name | ast.Attribute) and ast.unparse(test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
