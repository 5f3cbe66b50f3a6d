"""Attach coders to the modules of a model that NNsight wraps.

After `attach`, a user's own `model.trace` can read `submodule.ae.output`, the dense code (and after it
`submodule.output`: NNsight hands out values in the order in which they arise). The module that a coder reads is found
by its exact path, by its path below the base model (`h.2` for `transformer.h.2`), or by a unique suffix; anything
else is an error with the nearest matches.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sae_auto_interp.autoencoders.sparse_coder import Side, SparseCoder
from sae_auto_interp.errors import InputError, UnknownNameError, WeightsError, nearest_names


def torch_module(model: Any) -> nn.Module:
    """The plain torch model inside an NNsight wrapper (`LanguageModel`, `TransformersModel`, `NNsight`)."""
    module = getattr(model, "_module", None)
    if not isinstance(module, nn.Module):
        raise InputError(
            f"expected a model wrapped by NNsight, got {type(model).__name__}; "
            "wrap it with nnsight.NNsight(model), or load it with nnsight.TransformersModel(path)"
        )
    return module


def resolve_module_path(model: Any, path: str) -> str:
    """The full dotted path of the module that `path` names; raises `UnknownNameError` with the nearest match."""
    paths = [name for name, _ in torch_module(model).named_modules() if name]
    if path in paths:
        return path
    prefix = getattr(torch_module(model), "base_model_prefix", "")
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


def attach(model: Any, coders: Mapping[str, SparseCoder]) -> dict[str, Any]:
    """Put each coder at its module as `.ae` and return {full module path: submodule}. An earlier one is replaced.

    Raises `WeightsError` when a coder reads another number of dimensions than the module has, and `InputError` when
    two coders are for one module or the model's weights are not loaded yet. Nothing is attached then.
    """
    full_paths = {path: resolve_module_path(model, path) for path in coders}
    for path, full in full_paths.items():
        _check_alone(path, full_paths)
        _check_dimensions(model, full, coders[path])
    attached: dict[str, Any] = {}
    for path, full in full_paths.items():
        handle = submodule(model, full)
        handle.ae = coders[path].to(_device(model, full))
        _edit(model, handle)
        attached[full] = handle
    return attached


def attached_coder(handle: Any) -> SparseCoder:
    """The coder that `attach` put at a submodule."""
    coder = getattr(getattr(handle, "ae", None), "_module", None)
    if not isinstance(coder, SparseCoder):
        raise InputError(
            f"no autoencoder is attached at {getattr(handle, 'path', handle)!r}; use a load_*_autoencoders function"
        )
    return coder


def _edit(model: Any, handle: Any) -> None:
    """Run the coder in every trace. Which one, and on which side, is looked up then: it may be replaced by another."""
    with model.edit(inplace=True):
        value = handle.input if attached_coder(handle).settings.side == "input" else handle.output
        handle.ae(value if isinstance(value, Tensor) else value[0], hook=True)


def _check_alone(path: str, full_paths: Mapping[str, str]) -> None:
    same = [other for other, full in full_paths.items() if full == full_paths[path]]
    if len(same) > 1:
        raise InputError(
            f"{' and '.join(same)} are one module, {full_paths[path]}; a module has room for one autoencoder"
        )


def _check_dimensions(model: Any, path: str, coder: SparseCoder) -> None:
    expected = _dimensions(torch_module(model), path, coder.settings.side)
    if expected is not None and coder.d_in != expected:
        raise WeightsError(
            f"{coder.settings.source or 'the autoencoder'} reads {coder.d_in} dimensions, but {path} of this model has "
            f"{expected}: these weights belong to another model or another place"
        )


def _dimensions(model: nn.Module, path: str, side: Side) -> int | None:
    """Width of what a module reads or writes. A linear layer knows it; others with weights are as wide as the model.

    None where it cannot be told without running it: an activation function is as wide as what it is given.
    """
    module = model.get_submodule(path)
    for name in ("in_features", "nx") if side == "input" else ("out_features", "nf", "embedding_dim"):
        width = getattr(module, name, None)
        if isinstance(width, int):
            return width
    has_weights = next(module.parameters(), None) is not None
    width = getattr(getattr(model, "config", None), "hidden_size", None)
    return width if has_weights and isinstance(width, int) else None


def _device(model: Any, path: str) -> torch.device:
    """Where the module's weights are, or the model's where it has none; of offloaded ones, where they run."""
    module = torch_module(model)
    owner = module.get_submodule(path)
    parameter = next(owner.parameters(), next(module.parameters(), None))
    device = torch.device("cpu") if parameter is None else parameter.device
    if device.type != "meta":
        return device
    for each in (*owner.modules(), *module.modules()):
        found = getattr(getattr(each, "_hf_hook", None), "execution_device", None)
        if found is not None:
            return torch.device(found)
    raise InputError("the model's weights are not loaded yet; load it with dispatch=True")
