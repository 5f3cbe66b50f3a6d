"""README and docs are programs: every `yaml`, `bash` and `python` block runs, in order, in one folder per document.

A `yaml` block whose first line is `# name.yaml` becomes that file. `bash` blocks run with the installed command. All
`python` blocks of a document are one script, run after the rest. The endpoint in the examples becomes a scripted one.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.llm_server import LlmServer
from tests.support.scripted_llm import explain_and_judge

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLE_ENDPOINT = "http://127.0.0.1:8000/v1"
MAKE = re.compile(r"^make (\w+)$", re.MULTILINE)


def blocks(document: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(document.read_text(encoding="utf-8"))


def run(command: list[str], folder: Path) -> str:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.parametrize(
    "document", [d for d in DOCUMENTS if blocks(d)], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_every_block_runs(document: Path, tmp_path: Path) -> None:
    script: list[str] = []
    with LlmServer(explain_and_judge) as server:
        for language, text in blocks(document):
            if language == "yaml":
                name = re.match(r"# (\S+\.yaml)\n", text)
                assert name, f"{document.name}: a yaml block must begin with its file's name"
                (tmp_path / name.group(1)).write_text(text.replace(EXAMPLE_ENDPOINT, server.base_url))
            elif language == "bash" and not MAKE.fullmatch(text.strip()):
                run(["bash", "-euc", text.replace(EXAMPLE_ENDPOINT, server.base_url)], tmp_path)
            elif language == "python":
                script.append(text)
    if script:
        (tmp_path / "blocks.py").write_text("\n".join(script))
        run([sys.executable, "blocks.py"], tmp_path)


def test_make_targets_of_the_readme_exist() -> None:
    """CI runs what is behind them: the set-up, the demo and the tests."""
    targets = [
        target for language, text in blocks(ROOT / "README.md") if language == "bash" for target in MAKE.findall(text)
    ]
    assert targets == ["demo", "test"]
    for target in targets:
        run(["make", "--dry-run", target], ROOT)


def test_links_lead_somewhere() -> None:
    for document in [*DOCUMENTS, ROOT / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (document.parent / link).exists(), f"{document.relative_to(ROOT)} links to {link}"
