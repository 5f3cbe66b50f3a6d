"""Find the weight format from the files, never from a name, and say which was taken and why.

A family is a module of this folder with three functions, listed in FAMILIES:

- `recognise(root) -> str | None`: what among the files of a directory (or of a single file) gives the family away.
- `coders_in(model, root, chosen) -> dict`: the coders there by where they belong, as `attach` takes them; `chosen`
  names some of them in the family's own words, None takes all.
- `read(path)`: one coder, from what its settings call their `source`.

From the hub, the needed files are fetched first (`hub_files`), and looked at then.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.coder import Coder
from sae_auto_interp.autoencoders.directories import Chosen, names_of
from sae_auto_interp.autoencoders.families import (
    circuit_tracer,
    crosscoder,
    dictionary_learning,
    gemma_scope,
    gemma_scope_2,
    goodfire,
    llama_scope,
    openai,
    own_format,
    qwen_scope,
    saelens,
    sparsify,
)
from sae_auto_interp.autoencoders.hub_files import fetch
from sae_auto_interp.autoencoders.sparse_coder import SparseCoder
from sae_auto_interp.errors import InputError
from sae_auto_interp.models.hub import HubRef, parse_hub_ref, pinned
from sae_auto_interp.models.sites.hook_names import with_epsilon
from sae_auto_interp.models.sites.site import Placement
from sae_auto_interp.models.sites.site_names import resolve_site

logger = logging.getLogger(__name__)


class Family(Protocol):
    """The three functions of a family's module."""

    __name__: str

    def recognise(self, root: Path, /) -> str | None: ...

    def coders_in(self, model: Any, root: Path, chosen: Sequence[str] | None, /) -> Mapping[Any, Coder]: ...

    def read(self, path: Path, /) -> SparseCoder: ...


FAMILIES: dict[str, Family] = {
    "own": own_format,
    "openai": openai,
    "sparsify": sparsify,
    "saelens": saelens,
    "dictionary_learning": dictionary_learning,
    "gemma_scope": gemma_scope,
    "gemma_scope_2": gemma_scope_2,
    "llama_scope": llama_scope,
    "qwen_scope": qwen_scope,
    "goodfire": goodfire,
    "circuit_tracer": circuit_tracer,
    "crosscoder": crosscoder,
}


def load_autoencoders(
    model: Any, ref: str | Path, module_paths: Chosen = None, *, site: str | None = None
) -> dict[str, Any]:
    """Attach the coders at `ref`; returns {module path: submodule}.

    `ref` is a directory, a file, or an address on the hub, `hf:owner/repo[/path][@revision]`, of which only what is
    needed is fetched; the coders' `settings.source` then names the commit. `module_paths` chooses among them in the
    family's own words: layer numbers (OpenAI), module paths (sparsify), directory names (SAELens, and what
    `save_autoencoder` wrote); None takes all. `site` is where the one coder there reads, if not where its files say;
    a transform of the place that the files name is kept (a norm, centring), unless `site` ends in one in brackets.
    Raises `InputError` when the files are of no known family, or the hub has no such thing.
    """
    coders = _coders_at(model, ref, names_of(module_paths))
    return attach(model, coders if site is None else _moved(model, coders, site, ref))


def _coders_at(model: Any, ref: str | Path, module_paths: Sequence[str] | None) -> Mapping[Any, Coder]:
    address = parse_hub_ref(str(ref))
    if address is None:
        return _coders(model, Path(ref).expanduser(), module_paths)
    address = pinned(address)
    root = fetch(address, module_paths)
    coders = _coders(model, root, module_paths)
    for coder in coders.values():
        coder.settings = replace(coder.settings, source=_source_on_hub(coder.settings.source, root, address))
    return coders


def _moved(model: Any, coders: Mapping[Any, Coder], site: str, ref: str | Path) -> dict[Placement, Coder]:
    """The one coder, reading at `site`; what a transcoder reconstructs stays.

    A bare module path means the side that the coder would be attached to (of transcoders: what the module reads). What
    is done to the vectors stays as well, unless the name says it: ` (none)` behind it for nothing.
    """
    if len(coders) != 1:
        found = ", ".join(map(str, coders))
        raise InputError(f"autoencoders: site={site!r} is for one, but {ref} holds {found}; choose by module_paths")
    ((where, coder),) = coders.items()
    if isinstance(coder, SparseCoder) and coder.holds_value_bias:
        raise InputError(
            f"autoencoders: the value bias of {where.home if isinstance(where, Placement) else where} is part of the "
            f"weights of {ref}, so it cannot read at site={site!r}; load it where its files say"
        )
    before, target = (where.sites[-1], where.target) if isinstance(where, Placement) else (None, None)
    there = resolve_site(model, site.removesuffix(" (none)"), "input" if target else coder.settings.side)
    if before is not None and there.transform == "none" and not site.endswith(" (none)"):
        there = with_epsilon(model, replace(there, transform=before.transform, epsilon=0.0))
    return {Placement((there,), target): coder}


def detect_family(root: Path) -> tuple[str, str]:
    """The family, and the files that say so."""
    if not root.exists():
        raise InputError(f"autoencoders: there is no file or directory {root}")
    reasons = {name: reason for name, family in FAMILIES.items() if (reason := family.recognise(root))}
    if len(reasons) == 1:
        return next(iter(reasons.items()))
    if reasons:
        families = " and ".join(f"{reason} ({name})" for name, reason in reasons.items())
        raise InputError(f"autoencoders: {root} looks like several families: {families}; give each its own directory")
    listed = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing" if root.is_dir() else "no known weights"
    raise InputError(f"autoencoders: {root} is of no known family; it holds {listed}. Known: {', '.join(FAMILIES)}")


def _coders(model: Any, root: Path, chosen: Sequence[str] | None) -> Mapping[Any, Coder]:
    family, reason = detect_family(root)
    logger.info("%s holds %s autoencoders: %s", root, family, reason)
    return FAMILIES[family].coders_in(model, root, chosen)


def _source_on_hub(source: str, root: Path, address: HubRef) -> str:
    """The hub address of what a coder was read from; `root` is the local copy of `address`."""
    depth = len(PurePosixPath(address.path).parts)
    repository = root.parents[depth - 1] if depth else root
    return str(replace(address, path=Path(source).relative_to(repository).as_posix()))
