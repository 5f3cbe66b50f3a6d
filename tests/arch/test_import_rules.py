"""Who may import whom (docs/decisions/0002-folders.md): data flows one way, and torch ends at the cache."""

from pathlib import Path

import pytest

from tests.arch.source_files import ROOT, Import, folder_of, imports_of, name_of, package_files

BASE = {
    "types",
    "protocols",
    "errors",
    "registry",
    "seeds",
    "files",
    "model_loading",
    "module_names",
    "visible_text",
    "__version__",
}
COMPONENTS = {"types", "protocols", "errors", "module_names", "seeds", "prompting"}
STAGES = {
    "data",
    "models",
    "autoencoders",
    "cache",
    "features",
    "clients",
    "embedders",
    "explainers",
    "judges",
    "scorers",
    "metrics",
    "results",
    "preflight",
}

MAY_IMPORT: dict[str, set[str]] = {
    "types": set(),
    "errors": set(),
    "protocols": {"types"},
    "registry": {"errors"},
    "seeds": {"types"},
    "files": {"errors"},
    "model_loading": {"errors"},
    "module_names": {"errors"},
    "visible_text": set(),
    "prompting": {"types", "protocols", "errors"},
    "config": BASE,
    "data": BASE,
    "models": BASE,
    "autoencoders": BASE | {"models"},
    "clients": BASE | {"prompting"},
    "embedders": BASE | {"clients"},
    "metrics": BASE,
    "cache": {"types", "errors"},
    "features": BASE | {"cache"},
    "explainers": COMPONENTS,
    "judges": COMPONENTS,
    "scorers": COMPONENTS,
    "results": BASE,
    "report": BASE | {"config", "results", "metrics"},
    "planted": BASE | {"cache", "features"},
    "preflight": BASE | {"config", "models", "autoencoders", "features"},
    "pipeline": BASE | STAGES | {"prompting", "config", "planted"},
    "cli": BASE | STAGES | {"prompting", "config", "planted", "pipeline", "report"},
}
"""Folder (or module of the top level) -> what it may import of ours, besides itself."""

TORCH_FILES = {
    f"src/sae_auto_interp/features/{name}.py"
    for name in ("cache", "caching/code_stream", "caching/coder_inputs", "caching/outlier_norms")
}
"""Where the model and its coders become cached activations; everything behind it is numpy."""

PREFLIGHT_TORCH_FILES = {
    f"src/sae_auto_interp/preflight/{name}.py" for name in ("measure", "search", "other_readings", "other_sites")
}
"""What measures the fit of an autoencoder, where model and autoencoder are still loaded."""

MAY_IMPORT_BY_FILE = {path: {"models", "autoencoders"} for path in TORCH_FILES}

TORCH = ("torch", "nnsight", "accelerate", "safetensors.torch")
TORCH_FOLDERS = {"models", "autoencoders"}
LAZY_TORCH_FOLDERS = {"clients", "model_loading"}

SOURCES = [path for path in package_files() if folder_of(path) != "__init__"]


def is_within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def problem_with_own(entry: Import, path: Path) -> str | None:
    if entry.typing_only or not is_within(entry.module, ("sae_auto_interp",)):
        return None
    target, folder = entry.module.split(".")[1], folder_of(path)
    allowed = MAY_IMPORT.get(folder, set()) | MAY_IMPORT_BY_FILE.get(name_of(path), set()) | {folder}
    return None if target in allowed else f"{folder} may not import {target}"


def problem_with_torch(entry: Import, path: Path) -> str | None:
    folder = folder_of(path)
    if entry.typing_only or folder in TORCH_FOLDERS or name_of(path) in TORCH_FILES | PREFLIGHT_TORCH_FILES:
        return None
    if is_within(entry.module, TORCH) and not (folder in LAZY_TORCH_FOLDERS and entry.lazy):
        return f"{folder} may not import {entry.module}: after the cache everything is numpy"
    if is_within(entry.module, ("transformers",)) and not entry.lazy:
        return f"{folder} may import transformers only inside the function that needs it"
    return None


def problems_of(path: Path) -> list[str]:
    return [
        f"{name_of(path)}:{entry.line} {problem}"
        for entry in imports_of(path)
        for problem in (problem_with_own(entry, path), problem_with_torch(entry, path))
        if problem
    ]


def test_files_import_only_what_their_folder_may() -> None:
    problems = [problem for path in SOURCES for problem in problems_of(path)]
    assert not problems, "\n".join(problems)


def test_every_folder_has_a_rule_and_every_rule_a_folder() -> None:
    assert {folder_of(path) for path in SOURCES} == set(MAY_IMPORT), "MAY_IMPORT has one row for each folder"
    assert not [name for name in TORCH_FILES if not (ROOT / name).is_file()], "TORCH_FILES names what is gone"


def test_the_rules_have_no_cycle() -> None:
    remaining = {folder: allowed - {"__version__"} for folder, allowed in MAY_IMPORT.items()}
    while remaining:
        free = {folder for folder, allowed in remaining.items() if not allowed & set(remaining)}
        assert free, f"cycle among {sorted(remaining)}"
        remaining = {folder: allowed for folder, allowed in remaining.items() if folder not in free}


CASES = [
    ("import torch", "scorers/x.py", False),
    ("import torch.nn", "models/x.py", True),
    ("from safetensors import torch", "cache/x.py", False),
    ("from safetensors.numpy import load_file", "cache/x.py", True),
    ("def f():\n    import torch", "clients/x.py", True),
    ("def f():\n    import torch", "scorers/x.py", False),
    ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", "scorers/x.py", True),
    ("from sae_auto_interp.metrics import x", "scorers/x.py", False),
    ("from sae_auto_interp import config", "features/x.py", False),
    ("from sae_auto_interp.models import x", "features/cache.py", True),
    ("from sae_auto_interp.models import x", "features/loader.py", False),
    ("def f():\n    from sae_auto_interp.pipeline import x", "results/x.py", False),
    ("import transformers", "data/x.py", False),
    ("def f():\n    import transformers", "data/x.py", True),
]
"""(what is written, in which file, whether that is allowed)."""


def test_the_rules_see_what_they_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "src" / "sae_auto_interp"
    monkeypatch.setattr("tests.arch.source_files.ROOT", tmp_path)
    monkeypatch.setattr("tests.arch.source_files.PACKAGE", package)
    for source, where, is_allowed in CASES:
        path = package / where
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        assert (not problems_of(path)) == is_allowed, (source, where)


DECISION = ROOT / "docs" / "decisions" / "0002-folders.md"
TABLE = ("<!-- table: tests/arch/test_import_rules.py -->\n", "<!-- end of table -->")


def rules_as_table() -> str:
    """MAY_IMPORT for people: what all of the base may be imported stands as one word."""
    rows = ["| folder or module | may import, of ours |", "| --- | --- |"]
    base = BASE - {"__version__"}
    for folder, allowed in MAY_IMPORT.items():
        rest = sorted(allowed - BASE) if allowed >= BASE else sorted(allowed)
        names = [*(["base"] if allowed >= base else []), *rest]
        rows.append(f"| {folder} | {', '.join(names) or 'nothing'} |")
    return "\n".join(rows) + "\n"


def test_the_decision_shows_the_rules() -> None:
    text = DECISION.read_text(encoding="utf-8")
    shown = text.partition(TABLE[0])[2].partition(TABLE[1])[0]
    assert shown == rules_as_table(), f"put this between the marks of {name_of(DECISION)}:\n{rules_as_table()}"
