"""Find the weight format from the files, never from a name, and say which was taken and why.

A family is a module of this folder with two functions, listed in FAMILIES:

- `recognise(root) -> str | None`: what among the files of a directory (or of a single file) gives the family away.
- `coders_in(model, root, chosen) -> dict`: the coders there by where they belong, as `attach` takes them; `chosen`
  names some of them in the family's own words, None takes all.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from sae_auto_interp.autoencoders import openai, saelens, sparsify
from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.coder import Coder
from sae_auto_interp.errors import InputError
from sae_auto_interp.models.site import Placement
from sae_auto_interp.models.site_names import resolve_site

logger = logging.getLogger(__name__)


class Family(Protocol):
    """The two functions of a family's module."""

    __name__: str

    def recognise(self, root: Path, /) -> str | None: ...

    def coders_in(self, model: Any, root: Path, chosen: Sequence[str] | None, /) -> Mapping[Any, Coder]: ...


FAMILIES: dict[str, Family] = {"openai": openai, "sparsify": sparsify, "saelens": saelens}


def load_autoencoders(
    model: Any, ref: str | Path, module_paths: Sequence[str] | None = None, *, site: str | None = None
) -> dict[str, Any]:
    """Attach the coders in the directory `ref`; returns {module path: submodule}.

    `module_paths` chooses among them in the family's own words: layer numbers (OpenAI), module paths (sparsify),
    directory names (SAELens); None takes all. `site` is where the one coder there reads, if not where its files say.
    Raises `InputError` when the files are of no known family.
    """
    root = Path(ref)
    family, reason = detect_family(root)
    logger.info("%s holds %s autoencoders: %s", root, family, reason)
    coders = FAMILIES[family].coders_in(model, root, module_paths)
    return attach(model, coders if site is None else _moved(model, coders, site, root))


def _moved(model: Any, coders: Mapping[Any, Coder], site: str, root: Path) -> dict[Placement, Coder]:
    """The one coder, reading at `site`; what a transcoder reconstructs stays."""
    if len(coders) != 1:
        found = ", ".join(map(str, coders))
        raise InputError(f"autoencoders: site={site!r} is for one, but {root} holds {found}; choose by module_paths")
    ((where, coder),) = coders.items()
    target = where.target if isinstance(where, Placement) else None
    return {Placement((resolve_site(model, site),), target): coder}


def detect_family(root: Path) -> tuple[str, str]:
    """The family, and the files that say so."""
    if not root.exists():
        raise InputError(f"autoencoders: there is no directory {root}")
    reasons = {name: reason for name, family in FAMILIES.items() if (reason := family.recognise(root))}
    if len(reasons) == 1:
        return next(iter(reasons.items()))
    if reasons:
        families = " and ".join(f"{reason} ({name})" for name, reason in reasons.items())
        raise InputError(f"autoencoders: {root} looks like several families: {families}; give each its own directory")
    listed = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing"
    known = ", ".join(FAMILIES)
    raise InputError(f"autoencoders: {root} is of no known family; it holds {listed}. Known: {known}{_deeper(root)}")


def _deeper(root: Path) -> str:
    """Where in the directories below the files would be found, if they are there."""
    weights = next((p for name in ("sae.safetensors", "sae_weights.safetensors") for p in root.rglob(name)), None)
    return "" if weights is None else f". There is {weights.relative_to(root)}: give a directory nearer to it"
