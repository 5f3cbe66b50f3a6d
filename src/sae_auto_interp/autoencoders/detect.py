"""Find the weight format from the files, never from a name, and say which was taken and why."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from sae_auto_interp.autoencoders.openai import load_oai_autoencoders
from sae_auto_interp.autoencoders.saelens import load_saelens_autoencoders
from sae_auto_interp.autoencoders.sparsify import load_eai_autoencoders
from sae_auto_interp.errors import InputError

logger = logging.getLogger(__name__)
Family = Literal["openai", "sparsify", "saelens"]
_PATTERNS: tuple[tuple[Family, str], ...] = (
    ("openai", "{layer}.pt"),
    ("sparsify", "*/sae.safetensors"),
    ("saelens", "sae_weights.safetensors"),
    ("saelens", "*/sae_weights.safetensors"),
)


def load_autoencoders(model: Any, ref: str | Path, module_paths: Sequence[str] | None = None) -> dict[str, Any]:
    """Attach the coders in the directory `ref`; returns {module path: submodule}.

    `module_paths` chooses among them in the family's own words: layer numbers (OpenAI), module paths (sparsify),
    directory names (SAELens); None takes all. Raises `InputError` when the files are of no known family.
    """
    root = Path(ref)
    family, reason = detect_family(root)
    logger.info("%s holds %s autoencoders: %s", root, family, reason)
    if family == "sparsify":
        return load_eai_autoencoders(model, module_paths, root)
    if family == "saelens":
        return load_saelens_autoencoders(model, module_paths, root)
    layers = [_layer(path) for path in module_paths] if module_paths is not None else openai_layers(root)
    return load_oai_autoencoders(model, layers, root)


def detect_family(root: Path) -> tuple[Family, str]:
    """The family, and the files that say so."""
    if not root.is_dir():
        raise InputError(f"autoencoders: there is no directory {root}")
    found: dict[Family, str] = {f: pattern for f, pattern in _PATTERNS if _holds(root, f, pattern)}
    if len(found) == 1:
        family = next(iter(found))
        return family, f"it holds {found[family]}"
    if found:
        families = " and ".join(f"{pattern} ({family})" for family, pattern in found.items())
        raise InputError(
            f"autoencoders: {root} holds files of several families: {families}; give each its own directory"
        )
    listed = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing"
    known = ", ".join(f"{pattern} ({family})" for family, pattern in _PATTERNS)
    raise InputError(f"autoencoders: {root} is of no known family; it holds {listed}. Known: {known}{_deeper(root)}")


def openai_layers(root: Path) -> list[int]:
    """Layers that a directory in OpenAI's layout has weights for."""
    return sorted(int(p.stem) for p in root.glob("*.pt") if p.stem.isdecimal())


def _holds(root: Path, family: Family, pattern: str) -> bool:
    return bool(openai_layers(root)) if family == "openai" else next(root.glob(pattern), None) is not None


def _deeper(root: Path) -> str:
    """Where in the directories below the files would be found, if they are there."""
    weights = next((p for name in ("sae.safetensors", "sae_weights.safetensors") for p in root.rglob(name)), None)
    return "" if weights is None else f". There is {weights.relative_to(root)}: give a directory nearer to it"


def _layer(text: str) -> int:
    if not text.isdecimal():
        raise InputError(f"OpenAI autoencoders are chosen by layer number, not {text!r}")
    return int(text)
