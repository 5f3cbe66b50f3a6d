"""How many files one follows along five paths through the package, and that docs/architecture.md lists them."""

import json
import subprocess
import sys
from functools import cache

from tests.arch.architecture_page import PAGE, folders, listed, with_block
from tests.arch.source_files import ROOT
from tests.arch.traces import Modules

LIMITS = {
    "run": (178, 150),
    "batch": (32, 31),
    "score": (15, 11),
    "metric": (3, 3),
    "request": (37, 25),
    "stored response": (9, 9),
    "page": (38, 40),
}
"""Path -> (files that it may enter today, what HOUSE aimed at). Requests and scores pass through more readers since."""
REMEDY = "write the page anew: python -m tests.arch.architecture_page"


@cache
def found() -> dict[str, Modules]:
    """In a process of its own: what other tests have loaded and kept would not run again."""
    command = [sys.executable, "-m", "tests.arch.traces", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_path_enters_more_files_than_its_limit() -> None:
    above = {name: len(modules) for name, modules in found().items() if len(modules) > LIMITS[name][0]}
    assert not above, f"{above}; limits: {LIMITS}"
    assert found().keys() == LIMITS.keys()


def test_the_paths_are_real_ones() -> None:
    """Each passes through what it is named for."""
    assert {"cli/runs", "pipeline/resolved", "features/cache", "explainers/lexical", "report/pages/html"} <= set(
        found()["run"]
    )
    assert "autoencoders/encoding/cpu_selection" in found()["batch"]
    assert {"scorers/detection", "judges/llm"} <= set(found()["score"])
    assert {"clients/openai", "clients/wrappers/retry", "clients/wrappers/rate_limit"} <= set(found()["request"])
    assert "clients/openai" not in found()["stored response"]


def test_the_page_lists_the_paths_and_the_folders() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert listed(page) == {name: set(modules) for name, modules in found().items()}, REMEDY
    assert with_block(page, "folders", folders()) == page, REMEDY
