"""Who may import whom (docs/decisions/0002-folders.md): data flows one way, and torch ends at the cache."""

from pathlib import Path

import pytest

from tests.arch.source_files import Import, folder_of, imports_of, name_of, package_files

BASE = {"types", "fit_types", "protocols", "errors", "registry", "seeds", "spending", "model_loading", "__version__"}
CONTRACTS = {"types", "protocols", "errors"}
TEXT = {"highlights", "lexical_rule", "prompts"}
"""How examples, rules and prompts are written: pure modules that explainers, judges and scorers must agree on."""
COMPONENTS = CONTRACTS | TEXT | {"seeds", "asking"}
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
}

MAY_IMPORT: dict[str, set[str]] = {
    "cache_types": set(),
    "client_types": set(),
    "evidence_types": set(),
    "types": {"cache_types", "client_types", "evidence_types"},
    "fit_types": set(),
    "errors": set(),
    "protocols": {"types"},
    "registry": {"errors"},
    "seeds": {"types"},
    "spending": set(),
    "model_loading": set(),
    "asking": CONTRACTS,
    "highlights": CONTRACTS,
    "lexical_rule": CONTRACTS,
    "prompts": CONTRACTS,
    "presets": {"errors"},
    "client_config": {"spending"},
    "coder_config": {"client_config"},
    "config_problems": {"errors"},
    "config": BASE | {"client_config", "coder_config", "presets", "config_problems"},
    "data": BASE,
    "models": BASE,
    "autoencoders": BASE | {"models"},
    "clients": BASE,
    "embedders": BASE | {"clients"},
    "metrics": BASE,
    "cache": {"types", "errors"},
    "features": BASE | {"cache"},
    "explainers": COMPONENTS,
    "judges": COMPONENTS,
    "scorers": COMPONENTS,
    "results": BASE,
    "report": BASE | {"config", "results", "metrics"},
    "validity": BASE | {"cache", "features"},
    "pipeline": BASE | TEXT | STAGES | {"asking", "config", "validity"},
    "cli": BASE | TEXT | STAGES | {"config", "presets", "pipeline", "report", "validity"},
}
"""Folder (or module of the top level) -> what it may import of ours, besides itself."""

TORCH_FILES = {
    f"src/sae_auto_interp/features/{name}.py" for name in ("cache", "code_stream", "coder_inputs", "outlier_norms")
}
"""Where the model and its coders become cached activations; everything behind it is numpy."""

MAY_IMPORT_BY_FILE = {path: {"models", "autoencoders"} for path in TORCH_FILES}

TORCH = ("torch", "nnsight", "accelerate", "safetensors.torch")
TORCH_FOLDERS = {"models", "autoencoders"}
LAZY_TORCH_FOLDERS = {"clients"}

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
    if entry.typing_only or folder in TORCH_FOLDERS or name_of(path) in TORCH_FILES:
        return None
    if is_within(entry.module, TORCH) and not (folder in LAZY_TORCH_FOLDERS and entry.lazy):
        return f"{folder} may not import {entry.module}: after the cache everything is numpy"
    if is_within(entry.module, ("transformers",)) and not entry.lazy:
        return f"{folder} may import transformers only inside the function that needs it"
    return None


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_file_imports_only_what_its_folder_may(path: Path) -> None:
    problems = [
        f"{name_of(path)}:{entry.line} {problem}"
        for entry in imports_of(path)
        for problem in (problem_with_own(entry, path), problem_with_torch(entry, path))
        if problem
    ]
    assert not problems, "\n".join(problems)


def test_every_folder_has_a_rule() -> None:
    assert {folder_of(path) for path in SOURCES} <= set(MAY_IMPORT), "give the new folder a row in MAY_IMPORT"


def test_the_rules_have_no_cycle() -> None:
    remaining = {folder: allowed - {"__version__"} for folder, allowed in MAY_IMPORT.items()}
    while remaining:
        free = {folder for folder, allowed in remaining.items() if not allowed & set(remaining)}
        assert free, f"cycle among {sorted(remaining)}"
        remaining = {folder: allowed for folder, allowed in remaining.items() if folder not in free}


@pytest.mark.parametrize(
    ("source", "where", "is_allowed"),
    [
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
    ],
)
def test_the_rules_see_what_they_should(
    source: str, where: str, is_allowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "src" / "sae_auto_interp"
    path = package / where
    path.parent.mkdir(parents=True)
    path.write_text(source)
    monkeypatch.setattr("tests.arch.source_files.ROOT", tmp_path)
    monkeypatch.setattr("tests.arch.source_files.PACKAGE", package)
    problems = [p for e in imports_of(path) for p in (problem_with_own(e, path), problem_with_torch(e, path)) if p]
    assert (not problems) == is_allowed, problems
