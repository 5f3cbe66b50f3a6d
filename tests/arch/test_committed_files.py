"""What may not be in the repository: calls that run foreign code, and places that exist on one machine only."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.arch.source_files import committed_files, imports_of, name_of, python_files, tree_of

UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
ALLOWED_UNSAFE: dict[str, str] = {}
"""`path: call` -> why it is safe there."""
LARGEST_TEXT_BYTES = 2_000_000

# Written in pieces, so that this file does not hold what it looks for.
PLACES = [
    "pypi" + r"\.org",
    "python" + r"hosted\.org",
    "download" + r"\.pytorch\.org",
    "registry" + r"\.npm",
    "registry" + r"\.yarn",
    "deb" + r"\.debian\.org",
    "/" + r"root/",
    "(?<![\\w.~*])/" + r"work/",
    "/" + r"home/[a-z]",
    "/" + r"Users/[A-Za-z]",
    "/" + r"tmp/",
    "/" + r"opt/pypi",
    r"\." + "library/",
]
ONE_MACHINE = re.compile("|".join(PLACES))


def unsafe_calls(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.Call):
            continue
        name = called(node.func)
        if name in UNSAFE_CALLS or name.split(".")[0] in UNSAFE_MODULES:
            yield name
        elif name == "torch.load" and not is_set(node, "weights_only", True):
            yield "torch.load without weights_only=True"
        elif name.endswith(("np.load", "numpy.load")) and is_set(node, "allow_pickle", True):
            yield "numpy.load with allow_pickle=True"
        elif name.startswith("yaml.load") and name not in {"yaml.safe_load", "yaml.safe_load_all"}:
            yield f"{name}: use yaml.safe_load"


def called(function: ast.expr) -> str:
    """Its name with dots; `ast.unparse` would take most of the time of this test."""
    if isinstance(function, ast.Name):
        return function.id
    if isinstance(function, ast.Attribute):
        return f"{called(function.value)}.{function.attr}"
    return "(...)"


def takes_from_unsafe(module: str) -> bool:
    """`from pickle import loads`, but neither `import pickle` (its calls are looked at) nor its exceptions."""
    package, _, name = module.partition(".")
    return package in UNSAFE_MODULES and name != "" and not name.endswith("Error")


def is_set(call: ast.Call, keyword: str, value: object) -> bool:
    return any(k.arg == keyword and isinstance(k.value, ast.Constant) and k.value.value is value for k in call.keywords)


def foreign_code(path: Path) -> Iterator[str]:
    yield from unsafe_calls(path)
    yield from (entry.module for entry in imports_of(path) if takes_from_unsafe(entry.module))


def test_nothing_runs_foreign_code() -> None:
    found = {f"{name_of(path)}: {what}" for path in python_files() for what in foreign_code(path)}
    assert sorted(found - set(ALLOWED_UNSAFE)) == []


def test_foreign_code_is_seen(tmp_path: Path) -> None:
    cases = {
        "eval('1')": 1,
        "import pickle\npickle.loads(b'')": 1,
        "from pickle import loads": 1,
        "from pickle import UnpicklingError": 0,
        "torch.load('x')": 1,
        "torch.load('x', weights_only=True)": 0,
        "np.load('x', allow_pickle=True)": 1,
        "np.load('x')": 0,
        "yaml.load('x')": 1,
        "yaml.safe_load('x')": 0,
    }
    for source, n_found in cases.items():
        path = tmp_path / "x.py"
        path.write_text(source)
        assert len(list(foreign_code(path))) == n_found, source


def test_no_file_names_a_registry_or_a_place_on_one_machine() -> None:
    found = [
        f"{name_of(path)}:{number} {line.strip()[:120]}"
        for path in committed_files()
        for number, line in numbered_lines(path)
        if ONE_MACHINE.search(line)
    ]
    assert not found, "\n".join(found)


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a text file; nothing of a binary or a very large one."""
    content = path.read_bytes()
    if b"\0" in content[:8192] or len(content) > LARGEST_TEXT_BYTES:
        return
    yield from enumerate(content.decode("utf-8", errors="replace").splitlines(), start=1)


def test_no_address_in_a_list_of_versions() -> None:
    lists = [path for path in committed_files() if re.search(r"constraints|requirements|\.lock$", path.name)]
    assert not [f"{name_of(path)}: {line}" for path in lists for _, line in numbered_lines(path) if "://" in line]
