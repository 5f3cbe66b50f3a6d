"""README and docs are programs: every `yaml`, `bash` and `python` block runs, in order, in one folder per document.

A `yaml` block whose first line is `# name.yaml` becomes that file, and is a valid run file. All `python` blocks of a
document are one script, run after the `bash` blocks. The endpoint in the examples becomes a scripted one. Commands and
scripts begin in a process that has made the heavy imports already (tests/support/warm.py): half of the time is theirs.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sae_auto_interp.config import load_config
from tests.support.llm_server import LlmServer
from tests.support.scripted_llm import explain_and_judge
from tests.support.warm import warm_commands

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLE_ENDPOINT = "http://127.0.0.1:8000/v1"
MAKE = re.compile(r"^make (\w+)$", re.MULTILINE)


def blocks(document: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(document.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def commands() -> Iterator[Path]:
    with warm_commands() as folder:
        yield folder


def run(command: list[str], folder: Path, commands: Path) -> None:
    environment = os.environ | {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize(
    "document", [d for d in DOCUMENTS if blocks(d)], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_every_block_runs(document: Path, tmp_path: Path, commands: Path) -> None:
    script: list[str] = []
    with LlmServer(explain_and_judge) as server:
        for language, text in blocks(document):
            if language == "yaml":
                name = re.match(r"# (\S+\.yaml)\n", text)
                assert name, f"{document.name}: a yaml block must begin with its file's name"
                file = tmp_path / name.group(1)
                file.write_text(text.replace(EXAMPLE_ENDPOINT, server.base_url))
                load_config(file)
            elif language == "bash" and not MAKE.fullmatch(text.strip()):
                run(["bash", "-euc", text.replace(EXAMPLE_ENDPOINT, server.base_url)], tmp_path, commands)
            elif language == "python":
                script.append(text)
    if script:
        (tmp_path / "blocks.py").write_text("\n".join(script))
        run([str(commands / "python"), "blocks.py"], tmp_path, commands)


def test_make_targets_of_the_readme_exist(commands: Path) -> None:
    """CI runs what is behind them: the set-up, the demo and the tests."""
    targets = [
        target for language, text in blocks(ROOT / "README.md") if language == "bash" for target in MAKE.findall(text)
    ]
    assert targets == ["demo", "test"]
    for target in targets:
        run(["make", "--dry-run", target], ROOT, commands)


def test_links_lead_somewhere() -> None:
    for document in [*DOCUMENTS, ROOT / "CONTRIBUTING.md"]:
        for link, place in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", document.read_text(encoding="utf-8")):
            if "://" in link:
                continue
            target = document.parent / link if link else document
            assert target.exists(), f"{document.relative_to(ROOT)} links to {link}"
            assert not place or place in headings(target), f"{document.relative_to(ROOT)}: no {place} in {link}"


def headings(document: Path) -> set[str]:
    """As links name them: in small letters, without punctuation, hyphens for spaces."""
    titles = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_leads_to_every_page() -> None:
    """Pages on single methods are found through those on scorers and records."""
    linked = set(re.findall(r"\]\((docs/[^)#]+)\)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= linked
