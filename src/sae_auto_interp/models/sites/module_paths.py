"""From what a user or a weight file calls a module to the one module of the model that is meant."""

from typing import Any

from torch import nn

from sae_auto_interp.errors import InputError, UnknownNameError, nearest_names
from sae_auto_interp.models.placement import torch_model
from sae_auto_interp.models.sites.text_stack import WRAPPERS, descend, joined, plain, text_stack

_PREFIXES = {"model", "transformer", "gpt_neox", "language_model", "base_model", *WRAPPERS}
"""Above the text stack in one class of model or another, so a path may have more of them than this model has."""


def resolve_module_path(model: Any, path: str) -> str:
    """The full dotted path that `path` names. Raises `UnknownNameError` with the nearest match, `InputError` where
    several modules end with it.

    In this order: exact; below the base model (`h.2` for `transformer.h.2`); in the stack of text blocks (`layers.2`
    and `model.layers.2` for `model.language_model.layers.2`); the only one that ends with it. Wrappers such as
    `_orig_mod` need not be named.
    """
    module = torch_model(model)
    prefix = getattr(module, "base_model_prefix", "")
    for candidate in (path, f"{prefix}.{path}", *_in_text_stack(model, path)):
        found = exact_module_path(model, candidate)
        if found is not None:
            return found
    paths = [name for name, _ in module.named_modules() if name]
    ending = {plain(name): name for name in reversed(paths) if plain(name).endswith("." + path)}
    if len(ending) == 1:
        return next(iter(ending.values()))
    if ending:
        listed = ", ".join(sorted(ending.values())[:5])
        raise InputError(f"module path {path!r} is ambiguous: it ends {listed}; write it in full")
    raise UnknownNameError("module path", path, nearest_names(path, paths) or paths[:5])


def exact_module_path(model: Any, path: str) -> str | None:
    """`path` with the steps of wrappers that it leaves out; None where the model has no such module."""
    found = descend(torch_model(model), path)
    return None if found is None else found[0]


def submodule(model: Any, path: str) -> Any:
    """NNsight's handle of the module at a full path."""
    handle = model
    for part in path.split("."):
        handle = handle[int(part)] if part.isdigit() else getattr(handle, part)
    return handle


def module_at(model: Any, path: str) -> nn.Module:
    """The torch module at a full path."""
    return torch_model(model).get_submodule(path)


def _in_text_stack(model: Any, path: str) -> list[str]:
    """`path` below the stack, with fewer and fewer of the prefixes that it begins with."""
    stack = text_stack(model)
    parts = path.split(".")
    n_prefixes = next((i for i, part in enumerate(parts) if part not in _PREFIXES), -1)
    return [] if stack is None or not path else [joined(stack.path, *parts[i:]) for i in range(n_prefixes + 1)]
