"""The generated parts of docs/architecture.md: the folders, and the five paths of `traces`.

python -m tests.arch.architecture_page          write them anew
"""

import ast
import re
from collections.abc import Mapping
from pathlib import Path

from tests.arch.source_files import ROOT
from tests.arch.traces import Modules, traces

PAGE = ROOT / "docs" / "architecture.md"
PACKAGE = ROOT / "src" / "sae_auto_interp"
PATHS = {
    "run": "A run: `sae-auto-interp run` with the lexical explainer, to the report",
    "batch": "A cached batch: `FeatureCache.run`, TopK on the CPU",
    "score": "A score: detection of one explanation by an LLM judge",
    "metric": "Its metric: balanced accuracy",
    "request": "A request: through all wrappers to the server",
    "stored response": "The same request once its response is stored",
    "page": "A number on the page: from the results file to the report",
}
BLOCK = "<!-- {name} -->\n{text}<!-- end -->"


def folders() -> str:
    """One line a folder: how many modules it has, and what its `__init__` says first."""
    lines = ["| folder | modules | what it holds |", "|---|---:|---|"]
    for init in sorted(PACKAGE.rglob("__init__.py")):
        if init.parent != PACKAGE:
            n = len([path for path in init.parent.glob("*.py") if path != init])
            lines.append(f"| `{init.parent.relative_to(PACKAGE)}` | {n} | {first_line(init)} |")
    return "\n".join(lines) + "\n"


def first_line(file: Path) -> str:
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].replace("|", "\\|")


def paths(found: Mapping[str, Modules]) -> str:
    return "\n".join(f"### {PATHS[name]}\n\n{counted(modules)}" for name, modules in found.items())


def counted(modules: Modules) -> str:
    by_folder: dict[str, list[str]] = {}
    for module in modules:
        folder, _, name = module.rpartition("/")
        by_folder.setdefault(folder or ".", []).append(name)
    lines = [f"- `{folder}`: {', '.join(names)}" for folder, names in by_folder.items()]
    return f"{len(modules)} files.\n\n" + "\n".join(lines) + "\n"


def listed(page: str) -> dict[str, set[str]]:
    """The modules of each path as the page has them."""
    of_title = {title: name for name, title in PATHS.items()}
    found: dict[str, set[str]] = {}
    for section in re.split(r"^### ", page, flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        rows = re.findall(r"^- `(.+)`: (.+)$", text, flags=re.MULTILINE)
        found[of_title[title]] = {
            name if folder == "." else f"{folder}/{name}" for folder, names in rows for name in names.split(", ")
        }
    return found


def with_block(page: str, name: str, text: str) -> str:
    begin, end = page.index(f"<!-- {name} -->"), page.index("<!-- end -->", page.index(f"<!-- {name} -->"))
    return page[:begin] + BLOCK.format(name=name, text=text) + page[end + len("<!-- end -->") :]


if __name__ == "__main__":
    written = with_block(PAGE.read_text(encoding="utf-8"), "folders", folders())
    PAGE.write_text(with_block(written, "paths", paths(traces())), encoding="utf-8")
