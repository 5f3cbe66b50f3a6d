"""Measure the structure of the package: sizes, imports, who takes the whole configuration.

    python3 scripts/house_measures.py [ROOT] [--json]

ROOT is a checkout of this repository at any commit; without it, the one that holds this script. Standard library only;
nothing of ROOT is imported or run. The table shows, where there are any, the numbers of commit 10813df and the target.

How each number is counted:

lines                     all .py files of the package, `__init__` included
modules of ours imported  distinct modules of the package named by a file's import statements, in functions and under
                          TYPE_CHECKING too; a name taken from a folder counts as the folder; p90 is the value that at
                          most a tenth of the files exceed
one importer              files that exactly one other file imports, counted the same way; `__init__` is an importer
... in the same folder    those whose importer lies in their folder and is not its `__init__`
... of under 100 lines    of these, without `__init__` and without components
top-level modules         .py files in the package's own folder, its `__init__` included
modules in a folder       .py files without `__init__`, sub-folders not included; in folders of components
                          (COMPONENT_FOLDERS), only files that start with `_`
takes RunConfig           functions and methods with `RunConfig` in the annotation of an argument
imports config            files with an import of the module or folder `config`; naming RunConfig: they import that name
import circles            groups of modules that reach each other by imports. A name taken from a folder is followed to
                          the module that defines it, through the folder's `__init__` (.py or .pyi). Three numbers:
                          when modules load; with TYPE_CHECKING; with imports inside functions as well
functions                 lines from `def` to the last one, decorators aside; nested functions count twice
texts with "Of "          string constants (docstrings, help texts, messages, first pieces of f-strings) and lines of
                          templates and prompts that begin with it
"""

import argparse
import ast
import json
import re
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

NAME = "sae_auto_interp"
COMPONENT_FOLDERS = ("explainers", "judges", "scorers", "embedders", "clients", "autoencoders/families", "exchange")
"""Folders in which each file is a component: how many there are says nothing about order."""
SMALL_LINES = 100
Functions = ast.FunctionDef | ast.AsyncFunctionDef
Value = int | float | Mapping[str, object] | list[str]

ROWS: dict[str, tuple[str, str, str]] = {
    "files": ("files without __init__", "374", "335"),
    "lines": ("lines", "41,100", "39,500"),
    "imports_median": ("modules of ours imported by a file, median", "4", ""),
    "imports_p90": ("    p90", "10", ""),
    "imports_max": ("    most", "31", "22"),
    "one_importer": ("modules with one importer", "162", ""),
    "one_importer_same_folder": ("    in the same folder", "69", ""),
    "small_one_importer": ("    of under 100 lines, no component", "", "12"),
    "top_level": ("top-level modules", "20", "8"),
    "largest_folder": ("modules in the largest folder", "54", "20"),
    "run_config_functions": ("functions that take RunConfig", "78", ""),
    "run_config_outside_config": ("    outside config", "75", "11"),
    "run_config_in_pipeline": ("    in pipeline", "72", "8"),
    "config_importers": ("modules that import config", "37", "20"),
    "run_config_importers": ("    that name RunConfig", "", "10"),
    "context_vars": ("ContextVars", "5", "1"),
    "function_median": ("lines of a function, median", "", "8"),
    "function_max": ("    most", "", "60"),
    "circles_loading": ("import circles, when modules load", "", "0"),
    "circles_with_typing": ("    with TYPE_CHECKING", "", "0"),
    "circles_with_lazy": ("    with imports inside functions", "", ""),
    "of_texts": ('texts that start with "Of "', "120", "0"),
}
"""What is measured -> (label, at commit 10813df, target) (issue 17, where folders counted `__init__` too)."""


@dataclass(frozen=True)
class Import:
    """One imported name, in full. `lazy`: inside a function. `typing_only`: under `if TYPE_CHECKING:`."""

    name: str
    line: int
    lazy: bool
    typing_only: bool


@dataclass(frozen=True)
class Source:
    """One file of the package; `module` is its dotted name without the package's."""

    path: Path
    module: str

    @property
    def is_init(self) -> bool:
        return self.path.stem == "__init__"

    @property
    def folder(self) -> str:
        """The folder within the package, with slashes; empty at the top."""
        parts = self.module.split(".") if self.module else []
        return "/".join(parts if self.is_init else parts[:-1])

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def n_lines(self) -> int:
        return len(self.text.splitlines())

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        return tuple(_imports(self.tree, lazy=False, typing_only=False))

    @cached_property
    def functions(self) -> tuple[Functions, ...]:
        return tuple(node for node in ast.walk(self.tree) if isinstance(node, Functions))


def _imports(node: ast.AST, lazy: bool, typing_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, lazy, typing_only) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            # `from package import types` imports package.types
            yield from (Import(f"{child.module}.{a.name}", child.lineno, lazy, typing_only) for a in child.names)
        elif isinstance(child, ast.If) and ast.unparse(child.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            for statement in child.body:
                yield from _imports(ast.Module([statement], []), lazy, typing_only=True)
            for statement in child.orelse:
                yield from _imports(ast.Module([statement], []), lazy, typing_only)
        else:
            yield from _imports(child, lazy or isinstance(child, Functions | ast.Lambda), typing_only)


class Package:
    """All Python files of the package under `root`, read once."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "src" / NAME
        if not (self.folder / "__init__.py").is_file():
            sys.exit(f"{root} has no src/{NAME}/__init__.py; give a checkout of this repository")
        paths = sorted(p for p in self.folder.rglob("*.py") if "assets" not in p.relative_to(self.folder).parts)
        self.sources = [Source(path, self._module(path)) for path in paths]
        self.by_module = {source.module: source for source in self.sources}

    def _module(self, path: Path) -> str:
        parts = path.relative_to(self.folder).with_suffix("").parts
        return ".".join(part for part in parts if part != "__init__")

    @cached_property
    def files(self) -> list[Source]:
        return [source for source in self.sources if not source.is_init]

    def target(self, name: str) -> str | None:
        """The module of ours that an imported name is in, or is; None for what is not ours."""
        if name != NAME and not name.startswith(f"{NAME}."):
            return None
        inner = name.removeprefix(NAME).removeprefix(".")
        while inner not in self.by_module:
            inner = inner.rpartition(".")[0]
        return inner

    def home(self, name: str) -> str | None:
        """The same, followed through the `__init__` of folders to the module that has the name."""
        found = self.target(name)
        while found is not None and name in self._homes:
            found = self._homes[name]
            name = f"{NAME}.{found}.{name.rpartition('.')[2]}"
        return found

    @cached_property
    def _homes(self) -> dict[str, str]:
        homes: dict[str, str] = {}
        for source in self.sources:
            if not source.is_init:
                continue
            stub = source.path.with_suffix(".pyi")
            stubs = (Source(stub, source.module).imports) if stub.is_file() else ()
            for entry in (*source.imports, *stubs):
                home = self.target(entry.name)
                place = ".".join(part for part in (NAME, source.module, entry.name.rpartition(".")[2]) if part)
                if home is not None and home != source.module:
                    homes[place] = home
        return homes

    @cached_property
    def importers(self) -> dict[str, set[str]]:
        """{module: modules that import it, in whatever way}; an `__init__.pyi` counts as its `__init__`."""
        found: dict[str, set[str]] = {module: set() for module in self.by_module}
        for source in self.sources:
            for module in self.imported(source):
                found[module].add(source.module)
        for place, home in self._homes.items():
            found[home].add(place.removeprefix(NAME).removeprefix(".").rpartition(".")[0])
        return found

    def imported(self, source: Source) -> set[str]:
        found = {self.target(entry.name) for entry in source.imports}
        return {module for module in found if module is not None and module != source.module}

    def circles(self, counts: Callable[[Import], bool]) -> list[list[str]]:
        """Groups of modules that reach each other by the imports that count, folders' `__init__` looked through."""
        graph = {
            source.module: {self.home(entry.name) or "" for entry in source.imports if counts(entry)} - {source.module}
            for source in self.files
        }
        return circles_of({module: targets & graph.keys() for module, targets in graph.items()})


def circles_of(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """The strongly connected parts of more than one node, sorted."""
    reach = {node: _reached(graph, node) for node in graph}
    groups = {tuple(sorted(other for other in reach[node] if node in reach[other])) for node in graph}
    return [list(group) for group in sorted(groups) if len(group) > 1]


def _reached(graph: Mapping[str, Collection[str]], start: str) -> set[str]:
    seen: set[str] = set()
    left = [start]
    while left:
        for after in graph[left.pop()]:
            if after not in seen:
                seen.add(after)
                left.append(after)
    return seen


def measures(package: Package) -> dict[str, Value]:
    """Every measure by its name in ROWS, and the lists behind them under `..._list` or `..._by_folder`."""
    return _sizes(package) | _imports_measured(package) | _configuration(package) | _circles(package) | _texts(package)


def _sizes(package: Package) -> dict[str, Value]:
    folders = modules_by_folder(package)
    numbers = [(n.end_lineno or n.lineno) - n.lineno + 1 for s in package.sources for n in s.functions]
    return {
        "files": len(package.files),
        "lines": sum(source.n_lines for source in package.sources),
        "top_level": sum(not source.folder for source in package.sources),
        "largest_folder": max(folders.values()),
        "modules_by_folder": folders,
        "function_median": statistics.median(numbers),
        "function_max": max(numbers),
    }


def modules_by_folder(package: Package) -> dict[str, int]:
    """Modules in each folder below the top; of folders of components, what is no component."""
    counted = [s for s in package.files if s.folder and not is_component(s)]
    return dict(Counter(source.folder for source in counted).most_common())


def is_component(source: Source) -> bool:
    return source.folder in COMPONENT_FOLDERS and not source.path.name.startswith("_")


def _imports_measured(package: Package) -> dict[str, Value]:
    counts = sorted(len(package.imported(source)) for source in package.files)
    one = [source for source in package.sources if len(package.importers[source.module]) == 1]
    same = [source for source in one if _is_beside(package, source)]
    return {
        "imports_median": statistics.median(counts),
        "imports_p90": counts[len(counts) - 1 - len(counts) // 10],
        "imports_max": counts[-1],
        "one_importer": len(one),
        "one_importer_same_folder": len(same),
        "small_one_importer": len(small := small_with_one_importer(package)),
        "small_one_importer_list": small,
    }


def _is_beside(package: Package, source: Source) -> bool:
    """Whether the only importer is in the same folder, and no `__init__`."""
    (importer,) = (package.by_module[module] for module in package.importers[source.module])
    return importer.path.parent == source.path.parent and not importer.is_init


def small_with_one_importer(package: Package) -> list[str]:
    """Modules under 100 lines whose only importer is in their folder; components and `__init__` do not count."""
    one = [source for source in package.files if len(package.importers[source.module]) == 1]
    return [s.module for s in one if s.n_lines < SMALL_LINES and not is_component(s) and _is_beside(package, s)]


def _configuration(package: Package) -> dict[str, Value]:
    takes = takes_run_config(package)
    importers = [s for s in package.sources if any(_is_config(entry.name) for entry in s.imports)]
    named = [s.module for s in importers if any(_is_config(e.name) and _last(e.name) == "RunConfig" for e in s.imports)]
    outside = [name for name in takes if not is_in_config(name)]
    calls = (node for source in package.sources for node in ast.walk(source.tree) if isinstance(node, ast.Call))
    return {
        "run_config_functions": len(takes),
        "run_config_outside_config": len(outside),
        "run_config_in_pipeline": sum(name.startswith("pipeline.") for name in outside),
        "run_config_by_folder": dict(Counter(re.split(r"[.:]", name)[0] for name in takes).most_common()),
        "config_importers": len(importers),
        "run_config_importers": len(named),
        "run_config_importers_list": named,
        "context_vars": sum(ast.unparse(call.func).split("[")[0].endswith("ContextVar") for call in calls),
    }


def takes_run_config(package: Package) -> list[str]:
    """`module:function` of each function with RunConfig in the annotation of an argument."""
    return [f"{s.module}:{node.name}" for s in package.sources for node in s.functions if _takes_run_config(node)]


def _takes_run_config(node: Functions) -> bool:
    given = node.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    annotations = [ast.unparse(a.annotation) for a in arguments if a is not None and a.annotation is not None]
    return any(re.search(r"\bRunConfig\b", annotation) for annotation in annotations)


def is_in_config(name: str) -> bool:
    return re.match(r"config\b", name) is not None


def _is_config(name: str) -> bool:
    return name == f"{NAME}.config" or name.startswith(f"{NAME}.config.")


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _circles(package: Package) -> dict[str, Value]:
    found: dict[str, list[list[str]]] = {
        "circles_loading": package.circles(lambda entry: not entry.lazy and not entry.typing_only),
        "circles_with_typing": package.circles(lambda entry: not entry.lazy),
        "circles_with_lazy": package.circles(lambda _: True),
    }
    measured: dict[str, Value] = {name: len(groups) for name, groups in found.items()}
    return measured | {f"{name}_list": [" ".join(group) for group in groups] for name, groups in found.items()}


def _texts(package: Package) -> dict[str, Value]:
    found = of_texts(package)
    return {"of_texts": len(found), "of_texts_list": found}


def of_texts(package: Package) -> list[str]:
    """`file:line text` of each text that starts with "Of "."""
    found: list[str] = []
    for source in package.sources:
        nodes = (node for node in ast.walk(source.tree) if isinstance(node, ast.Constant))
        texts = ((node.lineno, node.value.lstrip()) for node in nodes if isinstance(node.value, str))
        found += _starting_with_of(source.path.relative_to(package.folder), texts)
    for path in sorted(p for p in package.folder.rglob("*") if p.suffix in {".j2", ".md", ".js"}):
        pieces = (re.split(r"[>\"'`]", line) for line in path.read_text(encoding="utf-8").splitlines())
        texts = ((number, piece.lstrip()) for number, line in enumerate(pieces, start=1) for piece in line)
        found += _starting_with_of(path.relative_to(package.folder), texts)
    return found


def _starting_with_of(path: Path, texts: Iterable[tuple[int, str]]) -> Iterator[str]:
    return (f"{path.as_posix()}:{line} {text[:60]!r}" for line, text in texts if text.startswith("Of "))


def table(found: Mapping[str, Value]) -> Iterator[str]:
    """The lines that are printed."""
    yield f"{'':45}{'here':>9}{'10813df':>10}{'target':>10}"
    for name, (label, base, target) in ROWS.items():
        value = found[name]
        shown = f"{value:,.0f}" if isinstance(value, int | float) else str(value)
        yield f"{label:45}{shown:>9}{base:>10}{target:>10}"
    for name in ("modules_by_folder", "run_config_by_folder"):
        counts = found[name]
        assert isinstance(counts, Mapping)
        yield f"\n{name.replace('_', ' ')}: " + ", ".join(f"{folder} {n}" for folder, n in counts.items())


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the structure of the package.")
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("root", nargs="?", type=Path, default=here, help="a checkout of this repository [this one]")
    parser.add_argument("--json", action="store_true", help="print JSON, with the lists behind the numbers")
    arguments = parser.parse_args()
    found = measures(Package(arguments.root))
    print(json.dumps(found, indent=1) if arguments.json else "\n".join(table(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
