"""Where a model's weights are, when accelerate spreads them over devices or keeps them off the model.

An offloaded parameter is on PyTorch's `meta` device, without values. The accelerate hook at its module, or at one above
it, holds them in a map (of CPU tensors, or of files) and lays them out on an execution device while the module runs.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sae_auto_interp.errors import InputError


def torch_model(model: Any) -> nn.Module:
    """The plain torch model: `model` itself, or what NNsight wraps in it."""
    module = model if isinstance(model, nn.Module) else getattr(model, "_module", None)
    if not isinstance(module, nn.Module):
        raise InputError(
            f"expected a torch model, or one wrapped by NNsight, got {type(model).__name__}; "
            "load it with nnsight.TransformersModel(path)"
        )
    return module


def uses_gpu(device: str | int | Mapping[str, str | int]) -> bool:
    """Whether any of a model goes to a GPU when it is loaded with this `device`, as a run file has it."""
    if isinstance(device, Mapping):
        return any(uses_gpu(each) for each in device.values())
    if device in ("cpu", "disk", "meta"):
        return False
    return isinstance(device, int) or device.startswith("cuda") or torch.cuda.is_available()


def input_device(model: nn.Module) -> torch.device:
    """Where token ids must go: where the embedding runs. For a model without weights, the CPU.

    Raises `InputError` for weights that are not loaded.
    """
    path, module = _embedding(model)
    for name, weight in (*module.named_parameters(), *module.named_buffers()):
        if not weight.is_meta:
            return weight.device
        for _, hook in _hooks_above(model, f"{path}.{name}" if path else name):
            if hook.execution_device is not None:
                return torch.device(hook.execution_device)
        raise _not_loaded(name)
    return torch.device("cpu")


def embedding_path(model: nn.Module) -> str:
    """Where token ids enter. Raises `InputError` for a model that does not say."""
    path, _ = _embedding(model)
    if not path:
        raise InputError(f"{type(model).__name__} does not say which module reads its token ids")
    return path


def stored_value(model: nn.Module, name: str, value: Tensor) -> Tensor:
    """The values of the parameter or buffer `name` of `model`, from where accelerate keeps them if it is offloaded.

    Raises `InputError` for weights that are not loaded at all.
    """
    if not value.is_meta:
        return value
    for path, hook in _hooks_above(model, name):
        if hook.offload and hook.weights_map is not None:
            try:
                return hook.weights_map[name.removeprefix(f"{path}.")]
            except KeyError:
                continue
    raise _not_loaded(name)


def _embedding(model: nn.Module) -> tuple[str, nn.Module]:
    """The module that token ids enter and its path; the model itself where that is not known."""
    get = getattr(model, "get_input_embeddings", None)
    try:
        embedding = get() if callable(get) else None
    except NotImplementedError:
        embedding = None
    found = [(path, module) for path, module in model.named_modules() if module is embedding]
    return found[0] if found else ("", model)


def _hooks_above(model: nn.Module, name: str) -> Iterator[tuple[str, Any]]:
    """The device hooks that may hold a parameter, with the paths of their modules, from its own module upwards."""
    path = name
    while path:
        path = path.rpartition(".")[0]
        for hook in _device_hooks(model.get_submodule(path)):
            yield path, hook


def _device_hooks(module: nn.Module) -> list[Any]:
    """accelerate's `AlignDevicesHook`s at a module: the hooks that move or offload weights."""
    from accelerate.hooks import AlignDevicesHook, SequentialHook

    hook = getattr(module, "_hf_hook", None)
    hooks = hook.hooks if isinstance(hook, SequentialHook) else (hook,)
    return [each for each in hooks if isinstance(each, AlignDevicesHook)]


def _not_loaded(name: str) -> InputError:
    return InputError(
        f"the model's weights are not loaded yet ({name} is on the meta device); load it with dispatch=True"
    )
