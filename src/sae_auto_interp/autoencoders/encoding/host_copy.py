"""Tensors on their way to the processor's memory, without waiting for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from sae_auto_interp.types import Array


class HostCopy:
    """Starts copying; `arrays` waits for the copy alone, not for what the device was given to do since.

    From a GPU all go in one copy into pinned memory, on a stream of its own: beside the next forward pass. On a CPU
    nothing is copied: the arrays are views.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        device = next((tensor.device for tensor in tensors if tensor.is_cuda), None)
        self._copy = _Arrived(tensors) if device is None else _Packed(tensors, device)

    def arrays(self) -> list[Array]:
        """The tensors as arrays, in order."""
        return self._copy.arrays()


def to_device(array: Array, device: torch.device) -> Tensor:
    """A copy on `device`; to a GPU out of pinned memory, for which the host does not wait."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class _Arrived:
    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = [tensor.cpu() for tensor in tensors]

    def arrays(self) -> list[Array]:
        return [tensor.numpy() for tensor in self._tensors]


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the tensors, as it lies among the bytes of all."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    n_bytes: int

    @classmethod
    def of(cls, tensor: Tensor) -> "_Part":
        dtype = torch.empty(0, dtype=tensor.dtype).numpy().dtype
        return cls(dtype, tuple(tensor.shape), tensor.nbytes)


class _Packed:
    """The widest types come first, so that each part begins at a multiple of its own."""

    def __init__(self, tensors: Sequence[Tensor], device: torch.device) -> None:
        self._parts = [_Part.of(tensor) for tensor in tensors]
        self._order = sorted(range(len(tensors)), key=lambda i: -self._parts[i].dtype.itemsize)
        flat = [tensors[i].to(device, non_blocking=True).reshape(-1).view(torch.uint8) for i in self._order]
        packed = torch.cat(flat)
        stream = _copying(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            self._host = torch.empty(packed.shape, dtype=torch.uint8, pin_memory=True)
            self._host.copy_(packed, non_blocking=True)
            packed.record_stream(stream)
            self._done = torch.cuda.Event()
            self._done.record(stream)

    def arrays(self) -> list[Array]:
        self._done.synchronize()
        found: dict[int, Array] = {}
        end = 0
        for i in self._order:
            part = self._parts[i]
            begin, end = end, end + part.n_bytes
            found[i] = self._host[begin:end].numpy().view(part.dtype).reshape(part.shape)
        return [found[i] for i in range(len(found))]


@cache
def _copying(device: torch.device) -> torch.cuda.Stream:
    """The stream of all copies from a device."""
    return torch.cuda.Stream(device)
