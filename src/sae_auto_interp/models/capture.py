"""Read the input or output of chosen modules while the model runs, and stop it after the deepest one.

Plain PyTorch hooks: they work with any placement of the model and cost nothing. As soon as every wanted module has
been read, the forward pass is left by a private exception, so later layers do not run.
"""

from collections.abc import Mapping
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
) -> dict[str, Float[Tensor, "batch seq d"]]:
    """Activations at each site, {module path: tensor}, of one forward pass over `tokens`.

    Raises `InputError` for a module that the forward pass never reached.
    """
    caught: dict[str, Tensor] = {}
    handles = [_hook(model.get_submodule(path), path, side, caught, len(sites)) for path, side in sites.items()]
    try:
        model(input_ids=tokens, attention_mask=attention_mask, use_cache=False)
    except _StopForward:
        pass
    finally:
        for handle in handles:
            handle.remove()
    missed = sorted(set(sites) - set(caught))
    if missed:
        raise InputError(f"the model's forward pass never runs {', '.join(missed)}")
    return caught


def _hook(module: nn.Module, path: str, side: Side, caught: dict[str, Tensor], n_sites: int) -> Any:
    def keep(value: Any) -> None:
        caught[path] = value if isinstance(value, Tensor) else value[0]
        if len(caught) == n_sites:
            raise _StopForward

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(args[0] if args else kwargs["hidden_states"])

    def after(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        keep(output)

    if side == "input":
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after)
