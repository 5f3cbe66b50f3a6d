"""Read the input or output of chosen modules while the model runs, and stop it after the deepest one.

Plain PyTorch hooks: they work with any placement of the model and cost nothing. As soon as every wanted module has
been read, the forward pass is left by a private exception, so later layers do not run. The model runs in evaluation
mode, whatever mode it is in: dropout would make up activations.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sae_auto_interp.errors import InputError

Side = Literal["input", "output"]


class _StopForward(Exception):
    """Leaves the forward pass; never seen outside this file."""


@torch.inference_mode()
def capture(
    model: nn.Module,
    sites: Mapping[str, Side],
    tokens: Int[Tensor, "batch seq"],
    attention_mask: Int[Tensor, "batch seq"],
) -> dict[str, Float[Tensor, "batch seq _"]]:
    """Activations at each site, {module path: tensor}, of one forward pass over `tokens`.

    A module that runs several times is read the first time; of a tuple the first item is read. Raises `InputError`
    for a module that the forward pass never reached, or whose value is not one vector per token.
    """
    caught: dict[str, Tensor] = {}
    handles = [_hook(model.get_submodule(path), path, side, caught, len(sites)) for path, side in sites.items()]
    try:
        with _evaluation_mode(model):
            model(input_ids=tokens, attention_mask=attention_mask, use_cache=False)
    except _StopForward:
        pass
    finally:
        for handle in handles:
            handle.remove()
    missed = sorted(set(sites) - set(caught))
    if missed:
        raise InputError(f"the model's forward pass never runs {', '.join(missed)}")
    return {path: _vectors(value, path, tokens) for path, value in caught.items()}


@contextmanager
def _evaluation_mode(model: nn.Module) -> Generator[None]:
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _hook(module: nn.Module, path: str, side: Side, caught: dict[str, Tensor], n_sites: int) -> Any:
    def keep(value: Any) -> None:
        if path in caught:
            return
        caught[path] = _first_tensor(value, path)
        if len(caught) == n_sites:
            raise _StopForward

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(args[0] if args else kwargs.get("hidden_states", next(iter(kwargs.values()), None)))

    def after(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        keep(output)

    if side == "input":
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after)


def _first_tensor(value: Any, path: str) -> Tensor:
    """Attention layers and older blocks give tuples with the hidden states first."""
    first = value[0] if isinstance(value, tuple | list) and value else value
    if not isinstance(first, Tensor):
        raise InputError(f"{path} does not give activations but {type(first).__name__}; attach to another module")
    return first


def _vectors(value: Tensor, path: str, tokens: Tensor) -> Tensor:
    """[batch, seq, d], also from modules that fold batch and sequence into one dimension."""
    if value.ndim == 2 and value.shape[0] == tokens.numel():
        return value.reshape(*tokens.shape, -1)
    if value.ndim != 3 or value.shape[:2] != tokens.shape:
        shapes = f"{tuple(value.shape)} for tokens of shape {tuple(tokens.shape)}"
        raise InputError(f"{path} does not give one vector per token ({shapes}); attach to another module")
    return value
