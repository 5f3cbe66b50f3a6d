"""Find the weight format from the files, never from a name, and say which was taken and why.

A family is a module of this folder with three functions, listed in FAMILIES:

- `recognise(root) -> str | None`: what among the files of a directory (or of a single file) gives the family away.
- `coders_in(model, root, chosen) -> dict`: the coders there by where they belong, as `attach` takes them; `chosen`
  names some of them in the family's own words, None takes all. Ours take the options too, and give pairs (`placing`).
- `read(path)`: one coder, from what its settings call their `source`.

`FILES` may say the names of its weight files, as patterns: where there is no such file, the family is not asked.

From the hub, the needed files are fetched first (`hub_files`), and looked at then.
"""

import fnmatch
import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.coder import Coder
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
from sae_auto_interp.autoencoders.files import Chosen, names_of
from sae_auto_interp.autoencoders.hub_files import fetch
from sae_auto_interp.autoencoders.left_out import left_out, unknown_files
from sae_auto_interp.autoencoders.options import CoderOptions, check_options
from sae_auto_interp.autoencoders.placing import Listed, Placed, placed_coders
from sae_auto_interp.autoencoders.sparse_coder import SparseCoder
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.models.hub import HubRef, parse_hub_ref, pinned
from sae_auto_interp.models.sites.site import Placement

logger = logging.getLogger(__name__)


class Family(Protocol):
    """The three functions of a family's module."""

    __name__: str

    def recognise(self, root: Path, /) -> str | None: ...

    def coders_in(self, *args: Any, **kwargs: Any) -> Mapping[Any, Coder] | Placed: ...

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
    model: Any,
    ref: str | Path,
    module_paths: Chosen = None,
    *,
    site: str | tuple[str, ...] | None = None,
    options: CoderOptions | None = None,
    beside: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Attach the coders at `ref`; returns {module path: submodule}.

    `ref` is a directory, a file, or an address on the hub, `hf:owner/repo[/path][@revision]`, of which only what is
    needed is fetched; the coders' `settings.source` then names the commit. `module_paths` chooses among them in the
    family's own words: layer numbers (OpenAI), module paths (sparsify), directory names (SAELens, and what
    `save_autoencoder` wrote); None takes all. `site` is where the one coder there reads, if not where its files say;
    a transform of the place that the files name is kept (a norm, centring), unless `site` ends in one in brackets.
    `options` says more about it, before its files. `beside` are coders that were attached before and stay: a further
    one at a module of theirs gets a name of its own (`attach`).
    Raises `InputError` when the files are of no known family, or the hub has no such thing.
    """
    options = options or CoderOptions()
    if site is not None:
        options = replace(options, site=site)
    return attach(model, _coders_at(model, ref, names_of(module_paths), options), beside=beside)


def _coders_at(model: Any, ref: str | Path, module_paths: Sequence[str] | None, options: CoderOptions) -> Placed:
    address = parse_hub_ref(str(ref))
    if address is None:
        return _coders(model, Path(ref).expanduser(), module_paths, options)
    address = pinned(address)
    root = fetch(address, module_paths)
    coders = _coders(model, root, module_paths, options)
    for _, coder in coders:
        coder.settings = replace(coder.settings, source=_source_on_hub(coder.settings.source, root, address))
    return coders


def detect_family(root: Path) -> tuple[str, str]:
    """The family, and the files that say so."""
    if not root.exists():
        raise InputError(f"autoencoders: there is no file or directory {root}")
    files = {path.name for path in root.rglob("*")} if root.is_dir() else {root.name}
    possible = {name: f for name, f in FAMILIES.items() if any(fnmatch.filter(files, p) for p in _patterns(f))}
    reasons = {name: reason for name, family in possible.items() if (reason := family.recognise(root))}
    if len(reasons) == 1:
        return next(iter(reasons.items()))
    if reasons:
        families = " and ".join(f"{reason} ({name})" for name, reason in reasons.items())
        raise InputError(f"autoencoders: {root} looks like several families: {families}; give each its own directory")
    reason = left_out(root)
    if reason is not None:
        raise WeightsError(f"autoencoders: {root}: {reason}")
    raise InputError(f"autoencoders: {root} is of no known family; {unknown_files(root)}. Known: {', '.join(FAMILIES)}")


def _patterns(family: object) -> tuple[str, ...]:
    """The names that the weight files of a family may have."""
    return getattr(family, "FILES", ("*",))


def _coders(model: Any, root: Path, chosen: Sequence[str] | None, options: CoderOptions) -> Placed:
    family, reason = detect_family(root)
    logger.info("%s holds %s autoencoders: %s", root, family, reason)
    module: Any = FAMILIES[family]
    check_options(options, family, getattr(module, "OPTIONS", ()))
    try:
        return _coders_of(module, model, root, chosen, options, family)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{root}: what its {family} files say cannot be understood ({type(error).__name__}: {str(error)[:200]}); "
            "are they damaged, or of a newer version?"
        ) from error


def _coders_of(
    module: Any, model: Any, root: Path, chosen: Sequence[str] | None, options: CoderOptions, family: str
) -> Placed:
    if not options.given:
        found = module.coders_in(model, root, chosen)
        return list(found.items()) if isinstance(found, Mapping) else found
    if "options" in inspect.signature(module.coders_in).parameters:
        return module.coders_in(model, root, chosen, options)
    listed = [_already_placed(where, coder) for where, coder in module.coders_in(model, root, chosen).items()]
    return placed_coders(model, listed, family, chosen, options)


def _already_placed(where: Any, coder: Coder) -> Listed:
    """A coder of a family that knows of no options."""
    place = where if isinstance(where, Placement) else Placement((where,))
    return Listed(str(where), lambda: place, lambda: coder)


def _source_on_hub(source: str, root: Path, address: HubRef) -> str:
    """The hub address of what a coder was read from; `root` is the local copy of `address`."""
    depth = len(PurePosixPath(address.path).parts)
    repository = root.parents[depth - 1] if depth else root
    return str(replace(address, path=Path(source).relative_to(repository).as_posix()))
