"""Tensors on their way to the processor's memory, without waiting for them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sae_auto_interp.types import Array


class HostCopy:
    """Starts copying; `arrays` waits for the copies alone, not for what the device was given to do since.

    From a GPU the copies go into pinned memory, so that they run beside the next forward pass. On a CPU nothing is
    copied: the arrays are views.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = [_to_host(tensor) for tensor in tensors]
        self._done = torch.cuda.Event() if any(tensor.is_cuda for tensor in tensors) else None
        if self._done is not None:
            self._done.record(torch.cuda.current_stream(next(t.device for t in tensors if t.is_cuda)))

    def arrays(self) -> list[Array]:
        """The tensors as arrays, in order."""
        if self._done is not None:
            self._done.synchronize()
        return [tensor.numpy() for tensor in self._tensors]


def _to_host(tensor: Tensor) -> Tensor:
    if not tensor.is_cuda:
        return tensor.cpu()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
