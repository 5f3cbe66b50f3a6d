"""A forward pass that ends at the module whose output is wanted."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


class _Reached(Exception):
    """Carries the module's output out of the forward pass."""

    def __init__(self, output: Tensor) -> None:
        self.output = output


@torch.inference_mode()
def output_at(model: nn.Module, module: nn.Module, tokens: Int64[Tensor, "batch seq"]) -> Float[Tensor, "batch seq d"]:
    """What `module` puts out; nothing after it is computed."""

    def leave(_module: nn.Module, _inputs: Any, output: Any) -> None:
        raise _Reached(output[0] if isinstance(output, tuple) else output)

    handle = module.register_forward_hook(leave)
    try:
        model(input_ids=tokens, use_cache=False)
    except _Reached as reached:
        return reached.output
    finally:
        handle.remove()
    raise RuntimeError("the forward pass does not reach the module")
