"""From what weight files and other libraries call a place to the `Site` of the subject model that is meant.

Read in this order: a module's exact path; a hook name of TransformerLens; a name of dictionary_learning's; a source id
of Neuronpedia; an address of our own; a path with `.input` or `.output` behind it, as in SAELens' `hf_hook_name`.
An address of our own is `module path[:in|:out][#item]`, and a transform in brackets may follow any name: so sites are
printed. Its path, like any other, is resolved as `module_paths` says.
"""

import re
from dataclasses import replace
from typing import Any, cast

from sae_auto_interp.errors import InputError, UnknownNameError, nearest_names
from sae_auto_interp.models.placement import torch_model
from sae_auto_interp.models.sites.hook_names import hook_names, hook_site, is_hook_name, with_epsilon
from sae_auto_interp.models.sites.module_paths import exact_module_path, resolve_module_path
from sae_auto_interp.models.sites.published_sites import dictionary_site, is_dictionary_name, is_source_id, source_site
from sae_auto_interp.models.sites.site import Side, Site, Transform

_ADDRESS = re.compile(r"(?P<path>[^:#\s]+)(?::(?P<side>in|out))?(?:#(?P<item>\d+))?")
_TRANSFORMED = re.compile(r"(?P<name>.+) \((?P<transform>centred|rms_norm|layer_norm|token_ids)\)")
_SIDES: dict[str, Side] = {"in": "input", "input": "input", "out": "output", "output": "output"}


def resolve_site(model: Any, name: str, side: Side = "output") -> Site:
    """The site that `name` means in `model`; `side` is that of a bare module path.

    Raises `UnknownNameError` with the nearest module paths and hook names, and `InputError` with the reason where the
    model's architecture has no such place.
    """
    bracketed = _TRANSFORMED.fullmatch(name)
    if bracketed:
        plain = resolve_site(model, bracketed["name"], side)
        return with_epsilon(model, replace(plain, transform=cast(Transform, bracketed["transform"]), epsilon=0.0))
    path = exact_module_path(model, name)
    if path is not None:
        return Site(path, side)
    if is_hook_name(name):
        return hook_site(model, name)
    if is_dictionary_name(name):
        return dictionary_site(model, name)
    if is_source_id(name):
        return source_site(model, name)
    return _site_at_address(model, name, side)


def _site_at_address(model: Any, name: str, side: Side) -> Site:
    match = _ADDRESS.fullmatch(name)
    path, given, item = match.groups() if match else (name, None, None)
    head, _, tail = path.rpartition(".")
    if given is None and head and tail in ("input", "output") and exact_module_path(model, path) is None:
        path, given = head, tail
    read = _SIDES[given] if given else side
    if item and read == "input":
        raise InputError(f"{name!r}: what a module reads has no items; only an output has")
    return Site(_module_path(model, path, name), read, int(item or 0))


def _module_path(model: Any, path: str, name: str) -> str:
    try:
        return resolve_module_path(model, path)
    except UnknownNameError as error:
        names = [*hook_names(model), *(p for p, _ in torch_model(model).named_modules() if p)]
        nearest = nearest_names(path, names)
        raise UnknownNameError("module path", name, nearest or error.known) from error
