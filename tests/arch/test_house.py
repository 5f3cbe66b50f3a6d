"""How the package is built, in numbers that only go down (`scripts/house_measures.py` says how each is counted)."""

import json
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from scripts.house_measures import (
    ROWS,
    Package,
    circles_of,
    is_in_config,
    measures,
    modules_by_folder,
    of_texts,
    small_with_one_importer,
    takes_run_config,
)
from tests.arch.source_files import ROOT

LIMITS: dict[str, tuple[int, int]] = {
    "files": (372, 335),
    "lines": (49_000, 39_500),
    "imports_max": (23, 22),
    "small_one_importer": (12, 12),
    "top_level": (8, 8),
    "largest_folder": (24, 20),
    "run_config_outside_config": (11, 11),
    "run_config_in_pipeline": (8, 8),
    "config_importers": (26, 20),
    "run_config_importers": (10, 10),
    "context_vars": (7, 1),
    "function_median": (8, 8),
    "function_max": (60, 60),
    "circles_loading": (0, 0),
    "circles_with_typing": (0, 0),
    "circles_with_lazy": (0, 0),
    "of_texts": (0, 0),
}
"""Measure -> (what it may be today, what it is to become). A step that lowers a number lowers its limit here."""

NEEDED_SMALL: dict[str, str] = {
    "autoencoders.encoding.gpu_selection": "one of two ways to choose the largest; the other is cpu_selection",
    "cache.journal": "what makes a killed run resume: found by its name",
    "clients.wrappers.retry": "a wrapper like the others, one a file",
    "data.standard_library": "one source of text a file",
    "models.by_hooks": "one of two ways to read activations; the other is by_nnsight",
    "preflight.other_sites": "one search of the preflight a file, as other_readings is",
    "results.spending_table": "the store would be longer than a file may be",
}
"""Module under 100 lines that one module of its folder imports -> why it is not a part of that one. At most 12."""

SUB_FOLDER_DOORS: dict[str, set[str]] = {}
"""Sub-folder -> the modules of the folder above that may import from it. One without a row has no limit yet."""


@cache
def found() -> Mapping[str, Any]:
    return measures(package())


@cache
def package() -> Package:
    return Package(ROOT)


def listed(name: str) -> str:
    return "\n".join(found().get(f"{name}_list", ()))


def test_no_measure_is_above_its_limit() -> None:
    above = {name: (found()[name], limit) for name, (limit, _) in LIMITS.items() if found()[name] > limit}
    assert not above, "\n".join([str(above), *map(listed, above)])


def test_limits_follow_what_was_reached() -> None:
    """So that nobody fills again what another one cleared; a tenth below the limit it is time to lower it."""
    loose = {
        name: (found()[name], limit)
        for name, (limit, target) in LIMITS.items()
        if limit > target and found()[name] < limit - max(2, limit // 10)
    }
    assert not loose, f"set these limits of LIMITS to what is reached (measured, limit): {loose}"


def test_limits_are_between_today_and_the_target() -> None:
    assert [name for name, (limit, target) in LIMITS.items() if limit < target] == []
    assert len(NEEDED_SMALL) <= LIMITS["small_one_importer"][1]
    assert set(NEEDED_SMALL) <= set(small_with_one_importer(package())), "NEEDED_SMALL names what needs no reason"


def test_sub_folders_are_entered_by_their_doors() -> None:
    wrong = [
        f"{source.module} may not import {target}: {folder} is entered through {sorted(doors)}"
        for folder, doors in SUB_FOLDER_DOORS.items()
        for source in package().files
        if source.folder == parent(folder) and source.module not in doors
        for target in package().imported(source)
        if f"{target}.".startswith(folder.replace("/", ".") + ".")
    ]
    assert not wrong, "\n".join(wrong)
    assert set(SUB_FOLDER_DOORS) <= {source.folder for source in package().sources}


def test_sub_folders_of_one_folder_form_no_circle() -> None:
    graph: dict[str, set[str]] = {source.folder: set() for source in package().files if "/" in source.folder}
    for source in package().files:
        targets = {package().by_module[target].folder for target in package().imported(source)}
        if source.folder in graph:
            beside = {other for other in targets & graph.keys() if parent(other) == parent(source.folder)}
            graph[source.folder] |= beside - {source.folder}
    assert circles_of(graph) == []


def parent(folder: str) -> str:
    return folder.rpartition("/")[0]


def write_package(root: Path, files: Mapping[str, str]) -> Package:
    for name, text in {"__init__.py": '"""Package."""\n', **files}.items():
        path = root / "src" / "sae_auto_interp" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Package(root)


def test_the_measures_see_what_they_should(tmp_path: Path) -> None:
    """On a made-up package with one of each."""
    lazy = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sae_auto_interp.pipeline.a import A\n"
    made = write_package(
        tmp_path,
        {
            "config.py": "def load(x: 'RunConfig'): ...\n",
            "pipeline/__init__.py": lazy,
            "pipeline/a.py": "from sae_auto_interp.config import RunConfig\n"
            "from sae_auto_interp.pipeline import b\nclass A:\n    def f(self, *, c: RunConfig | None): ...\n"
            "    def g(self, c: RunConfigs) -> RunConfig:\n        'Of nothing.'\n",
            "pipeline/b.py": "def f():\n    from sae_auto_interp.pipeline import A\n    print(f'Of {A}', 'Off')\n",
            "scorers/x.py": "from sae_auto_interp.scorers import _own\n",
            "scorers/_own.py": "\n" * 120,
            "report/page.html.j2": "<p>Of the <b>Of </b>and Of\n",
        },
    )
    assert takes_run_config(made) == ["config:load", "pipeline.a:f"]
    assert [name for name in takes_run_config(made) if is_in_config(name)] == ["config:load"]
    assert not is_in_config("config_problems:f")
    assert small_with_one_importer(made) == ["pipeline.b"]
    assert modules_by_folder(made) == {"pipeline": 2, "scorers": 1}
    assert [text.split(":")[0] for text in of_texts(made)] == [
        "pipeline/a.py",
        "pipeline/b.py",
        *["report/page.html.j2"] * 2,
    ]
    assert made.circles(lambda entry: True) == [["pipeline.a", "pipeline.b"]], "through the folder's lazy __init__"
    assert made.circles(lambda entry: not entry.lazy) == []
    assert made.importers["pipeline.a"] == {"pipeline"}


def test_the_command_measures_any_checkout(tmp_path: Path) -> None:
    """With the standard library alone."""
    made = write_package(tmp_path, {"pipeline/a.py": "def f(c: RunConfig): ...\n"})
    command = [sys.executable, "-IS", str(ROOT / "scripts" / "house_measures.py"), str(tmp_path)]
    shown = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout
    assert json.loads(shown) == measures(made)
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert ["outside", "config", "1", "75", "11"] in [line.split() for line in lines]
    assert set(LIMITS) <= set(ROWS)
    assert {name: f"{target:,}" for name, (_, target) in LIMITS.items()} | {"circles_with_lazy": ""} == {
        name: ROWS[name][2] for name in LIMITS
    }
