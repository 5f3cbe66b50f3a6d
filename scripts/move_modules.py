"""Move modules of the package, and rewrite whatever names them.

    python3 scripts/move_modules.py TABLE

TABLE has one row a module: old path, tab, new path, both within src/sae_auto_interp. A file is moved with `git mv`, so
that its history follows it. Imports, dotted names in strings, and paths in texts are rewritten in every tracked text
file. Rows whose old file is gone are skipped; a row whose new file exists is an error, for merging is a person's work.
Local names of a module that was imported as a whole (`from package import module`) are renamed with it.

Standard library only. Run `ruff check --fix` and `ruff format` afterwards: imports may need another order.
"""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "sae_auto_interp"
SOURCE = ROOT / "src" / PACKAGE
TEXTS = {".py", ".pyi", ".md", ".toml", ".yaml", ".yml", ".txt", ".cfg", ".sh", ".html", ".tsv", ""}
UNTOUCHED = ("CHANGELOG.md",)
"""What tells of the past keeps the names of the past."""


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    table = Path(sys.argv[1]).resolve()
    rows = read_rows(table)
    moves = {old: new for old, new in rows.items() if (SOURCE / old).exists()}
    require_free(moves)
    for old, new in moves.items():
        move_file(old, new)
    modules = {dotted(old): dotted(new) for old, new in rows.items()}
    for path in tracked_texts():
        if path != table:
            rewrite(path, modules, rows)
    print(f"{len(moves)} modules moved")
    return 0


def read_rows(table: Path) -> dict[str, str]:
    """Old path -> new path."""
    rows = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines() if line.strip()]
    return {old: new for old, new in rows if old != new}


def require_free(moves: Mapping[str, str]) -> None:
    taken = [new for new in moves.values() if (SOURCE / new).exists() and new not in moves]
    taken += [new for new in moves.values() if list(moves.values()).count(new) > 1]
    if taken:
        sys.exit(f"these exist already or are named twice: {', '.join(sorted(set(taken)))}")


def move_file(old: str, new: str) -> None:
    target = SOURCE / new
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "mv", SOURCE / old, target], check=True, cwd=ROOT)


def dotted(path: str) -> str:
    """`clients/http/endpoint.py` -> `sae_auto_interp.clients.http.endpoint`; a folder's `__init__` is the folder."""
    parts = path.removesuffix(".py").split("/")
    return ".".join([PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)])


def tracked_texts() -> list[Path]:
    names = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split("\n")
    paths = [ROOT / name for name in names if name and name not in UNTOUCHED]
    return [path for path in paths if path.suffix in TEXTS and path.is_file() and not path.is_symlink()]


def rewrite(path: Path, modules: Mapping[str, str], moves: Mapping[str, str]) -> None:
    try:
        before = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return
    text = before
    if path.suffix in {".py", ".pyi", ".md"}:
        text = with_whole_modules(text, modules)
    if path.suffix == ".pyi" and SOURCE in path.parents:
        text = with_relative_imports(text, path, modules)
    text = with_dotted_names(text, modules)
    text = with_paths(text, moves)
    if text != before:
        path.write_text(text, encoding="utf-8")


def with_dotted_names(text: str, modules: Mapping[str, str]) -> str:
    arrived = set(modules.values()) - set(modules)

    def renamed(found: re.Match[str]) -> str:
        parts = found.group().split(".")
        for n in range(len(parts), 1, -1):
            if ".".join(parts[:n]) in arrived:
                return found.group()  # a new name that begins like an old one
            if (new := modules.get(".".join(parts[:n]))) is not None:
                return ".".join([new, *parts[n:]])
        return found.group()

    return re.sub(rf"\b{PACKAGE}(?:\.\w+)+", renamed, text)


def with_paths(text: str, moves: Mapping[str, str]) -> str:
    def renamed(found: re.Match[str]) -> str:
        prefix, path = found.group(1) or "", found.group(2)
        if path not in moves or (not prefix and "/" not in path):
            return found.group()
        return prefix + moves[path]

    return re.sub(rf"(?<![\w/.-])((?:src/)?{PACKAGE}/)?([\w/]+(?:\.\w+)+)", renamed, text)


IMPORT = re.compile(rf"^([ \t]*)from ({PACKAGE}(?:\.\w+)*) import (\([^)]*\)|[^\n(#]+)", re.MULTILINE)


def with_whole_modules(text: str, modules: Mapping[str, str]) -> str:
    """`from package import module` of a module that moved; its local name is replaced where it is used."""
    renames: dict[str, str] = {}

    def renamed(found: re.Match[str]) -> str:
        indent, package, names = found.group(1), found.group(2), found.group(3)
        entries = [entry.strip() for entry in names.strip("() \n").split(",") if entry.strip()]
        stay: list[str] = []
        moved: list[str] = []
        for entry in entries:
            name, _, alias = entry.partition(" as ")
            new = modules.get(f"{package}.{name.strip()}")
            if new is None:
                stay.append(entry)
                continue
            home, _, leaf = new.rpartition(".")
            moved.append(f"{indent}from {home} import {leaf}" + (f" as {alias}" if alias else ""))
            if not alias and leaf != name:
                renames[name] = leaf
        if not moved:
            return found.group()
        lines = [f"{indent}from {package} import {', '.join(stay)}"] if stay else []
        return "\n".join([*lines, *moved])

    text = IMPORT.sub(renamed, text)
    for old, new in renames.items():
        text = re.sub(rf"(?<![\w.'\"]){old}(?=\.\w)(?!\.py\b)", new, text)
    return text


def with_relative_imports(text: str, path: Path, modules: Mapping[str, str]) -> str:
    """The stubs' imports, which lazy_loader wants relative and within the folder."""
    package = ".".join([PACKAGE, *path.parent.relative_to(SOURCE).parts])

    def renamed(found: re.Match[str]) -> str:
        new = modules.get(f"{package}.{found.group(1)}")
        if new is None:
            return found.group()
        if not new.startswith(f"{package}."):
            sys.exit(f"{path}: {found.group(1)} leaves the folder whose public names it holds; take them out first")
        return f"from .{new.removeprefix(f'{package}.')} import"

    return re.sub(r"^from \.([\w.]+) import", renamed, text, flags=re.MULTILINE)


if __name__ == "__main__":
    sys.exit(main())
