"""Attach coders to the modules of a model that NNsight wraps.

After `attach`, a user's own `model.trace` can read `submodule.ae.output`, the dense code. The module that a
coder reads is found by its exact path, by its path below the base model (`h.2` for `transformer.h.2`), or by a
unique suffix; anything else is an error with the nearest matches.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from sae_auto_interp.autoencoders.sparse_coder import SparseCoder
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
    """Put each coder at its module as `.ae` and return {full module path: submodule}.

    Raises `WeightsError` when a coder reads another number of dimensions than the model has.
    """
    attached: dict[str, Any] = {}
    for path, coder in coders.items():
        full = resolve_module_path(model, path)
        _check_dimensions(model, full, coder)
        handle = submodule(model, full)
        handle.ae = coder.to(_device(handle))
        _edit(model, handle, coder)
        attached[full] = handle
    return attached


def attached_coder(handle: Any) -> SparseCoder:
    """The coder that `attach` put at a submodule."""
    coder = getattr(getattr(handle, "ae", None), "_module", None)
    if not isinstance(coder, SparseCoder):
        raise InputError(f"no autoencoder is attached at {getattr(handle, 'path', handle)!r}; use a load_*_autoencoders function")
    return coder


def _edit(model: Any, handle: Any, coder: SparseCoder) -> None:
    with model.edit(inplace=True):
        value = handle.input if coder.settings.side == "input" else handle.output
        handle.ae(value if isinstance(value, Tensor) else value[0], hook=True)


def _check_dimensions(model: Any, path: str, coder: SparseCoder) -> None:
    expected = getattr(torch_module(model).config, "hidden_size", None)
    if isinstance(expected, int) and coder.d_in != expected:
        raise WeightsError(
            f"{coder.settings.source or 'the autoencoder'} reads {coder.d_in} dimensions, but {path} of this model has "
            f"{expected}: these weights belong to another model or another place"
        )


def _device(handle: Any) -> Any:
    parameter = next(iter(handle._module.parameters()), None)
    return "cpu" if parameter is None else parameter.device
