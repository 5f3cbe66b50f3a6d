"""Where sparsify puts its files: directories named after modules, and above them one configuration of the run."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sae_auto_interp.autoencoders.files import read_json
from sae_auto_interp.autoencoders.settings import CoderClaims
from sae_auto_interp.errors import InputError
from sae_auto_interp.models.sites.module_paths import resolve_module_path

_SEED = re.compile(r"seed\d+")
RUN_DIRECTORIES_ABOVE = 3
"""How far above a module's directory the configuration of the run is looked for."""


def coder_directories(root: Path, chosen: Sequence[str] | None) -> list[Path]:
    """The directories of `chosen` modules; None: all in `root`, or `root` itself if it is one."""
    if root.is_file():
        return [root.parent]
    if not root.is_dir():
        raise InputError(f"sparsify autoencoders: there is no directory {root}")
    if chosen is not None:
        return [directory for name in chosen for directory in _with_seeds(root / name)]
    found = sorted(p.parent for p in root.rglob("cfg.json") if (p.parent / "sae.safetensors").exists())
    if not found:
        raise InputError(f"sparsify autoencoders: {root} holds no directory with a cfg.json and a sae.safetensors")
    return found


def module_path(model: Any, directory: Path) -> str:
    """The module that a directory is named after: in sparsify's words, dots; older scripts nested directories."""
    parts = list(directory.absolute().parts[1:])
    if _SEED.fullmatch(parts[-1]):
        parts.pop()
    for n in range(1, len(parts) + 1):
        name = ".".join(parts[-n:])
        if _is_module(model, name):
            return name
    return parts[-1]


def claims_of_run(directory: Path, k: int) -> CoderClaims:
    """What the run's config.json, in one of the directories above, says of the model and the data."""
    name = directory.parent.name if _SEED.fullmatch(directory.name) else directory.name
    for above in list(directory.absolute().parents)[:RUN_DIRECTORIES_ABOVE]:
        file = above / "config.json"
        run = read_json(file) if file.is_file() else {}
        if isinstance(run.get("model"), str) and ("sae" in run or "hookpoints" in run):
            return CoderClaims(run["model"], float(k), name, run.get("ctx_len"), run.get("dataset"))
    return CoderClaims(l0=float(k), hook=name)


def _with_seeds(directory: Path) -> list[Path]:
    """The directory, or those of the seeds in it."""
    seeds = sorted(p.parent for p in directory.glob("seed*/cfg.json") if _SEED.fullmatch(p.parent.name))
    return seeds if seeds and not (directory / "cfg.json").exists() else [directory]


def _is_module(model: Any, name: str) -> bool:
    try:
        resolve_module_path(model, name)
    except InputError:  # unknown, or ambiguous: with one more part it may not be
        return False
    return True
