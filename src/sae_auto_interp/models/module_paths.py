"""From what a user or a weight file calls a module to the one module of the model that is meant."""

from typing import Any

from torch import nn

from sae_auto_interp.errors import InputError, UnknownNameError, nearest_names
from sae_auto_interp.models.placement import torch_model


def resolve_module_path(model: Any, path: str) -> str:
    """The full dotted path that `path` names: exact, below the base model (`h.2` for `transformer.h.2`), or the only
    one that ends with it. Raises `UnknownNameError` with the nearest match, `InputError` where several end with it."""
    module = torch_model(model)
    paths = [name for name, _ in module.named_modules() if name]
    if path in paths:
        return path
    prefix = getattr(module, "base_model_prefix", "")
    if f"{prefix}.{path}" in paths:
        return f"{prefix}.{path}"
    ending = [name for name in paths if name.endswith("." + path)]
    if len(ending) == 1:
        return ending[0]
    if ending:
        raise InputError(f"module path {path!r} is ambiguous: it ends {', '.join(ending[:5])}; write it in full")
    raise UnknownNameError("module path", path, nearest_names(path, paths) or paths[:5])


def submodule(model: Any, path: str) -> Any:
    """NNsight's handle of the module at a full path."""
    handle = model
    for part in path.split("."):
        handle = handle[int(part)] if part.isdigit() else getattr(handle, part)
    return handle


def module_at(model: Any, path: str) -> nn.Module:
    """The torch module at a full path."""
    return torch_model(model).get_submodule(path)
