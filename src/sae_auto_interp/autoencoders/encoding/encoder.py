"""From activations to the entries of their codes, in blocks of positions whose size is bounded by memory.

On a CPU each block is computed and selected by one thread, tile by tile of columns (`selection`), and the threads take
the blocks in turn; neither the number of threads nor that of positions changes a bit (`products`). On a GPU each
block's pre-activations are one matrix product into the room of the one before, out of which `device_selection` takes
what is kept. No dense code of all positions ever exists.
"""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from sae_auto_interp.autoencoders.encoding import gpu_selection
from sae_auto_interp.autoencoders.encoding.cpu_selection import select_above, select_topk
from sae_auto_interp.autoencoders.encoding.likely_bounds import LikelyBounds
from sae_auto_interp.autoencoders.encoding.scan import Entries
from sae_auto_interp.autoencoders.encoding.tiles import Tiles, product, tiles_for
from sae_auto_interp.autoencoders.encoding.workers import Room, Workers
from sae_auto_interp.types import Array

BLOCK_ENTRIES_ON_DEVICE = 1 << 27
"""Pre-activations at a time on a GPU: 512 MiB; smaller products would leave it idle."""
LEAST_BLOCKS, LEAST_ROWS = 8, 32
"""Fewest rows of a block; a small batch is divided into blocks so that threads have something to take in turn."""
LARGEST_ACTIVATION = 1e18
"""Times a weight of at most 1e15, added up over the dimensions, an activation up to this stays below float32's end."""


@dataclass(frozen=True, slots=True)
class SparseCode:
    """The entries above zero of n codes, in order of position. On a GPU some may be zero, and stand for no entry."""

    positions: Int64[Tensor, " nnz"]
    features: Int64[Tensor, " nnz"]
    values: Float32[Tensor, " nnz"]


@dataclass(slots=True)
class Scratch:
    """Threads, which encoders that take turns may share, and their room for the blocks that are encoded at a time."""

    workers: Workers = field(default_factory=Workers, init=False)


_OWN = threading.local()


def own_scratch(device: torch.device) -> Scratch:
    """For calls that come one by one: on a CPU this thread's, kept for the next, so that no call starts threads anew.

    Threads do not survive a fork: a process begins with its own. A GPU's memory is not held for a next call.
    """
    if device.type != "cpu":
        return Scratch()
    process, kept = getattr(_OWN, "kept", (0, None))
    if kept is None or process != os.getpid():
        kept = Scratch()
        _OWN.kept = (os.getpid(), kept)
    return kept


@dataclass(frozen=True, slots=True)
class Products:
    """Pre-activations of some positions on a CPU, as `selection` asks for them."""

    x: Float32[Tensor, "n d_in"]
    w_enc: Float32[Tensor, "columns d_in"]
    b_enc: Float32[Tensor, " columns"] | None
    """None stands for zeros."""
    scale: Float32[Tensor, " columns"] | None

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.x), len(self.w_enc)

    def compute(self, first: int, last: int, out: Float32[Tensor, "n some"]) -> None:
        product(self.x, self.w_enc[first:last], out, None if self.b_enc is None else self.b_enc[first:last])
        if self.scale is not None:
            out.mul_(self.scale[first:last])

    def norms(self) -> Float32[Array, " n"]:
        return torch.linalg.vector_norm(self.x, dim=1).numpy()

    def of_rows(self, rows: slice | Int64[Array, " some"]) -> "Products":
        return Products(self.x[rows], self.w_enc, self.b_enc, self.scale)


@dataclass(frozen=True, slots=True)
class Encoder:
    """Weights as they are multiplied, and which pre-activations fire: the `k` largest, or those above `threshold`."""

    prepare: Callable[[Tensor], Tensor]
    """Activations [n, d_in] of any type -> what is multiplied, float32."""
    w_enc: Float32[Tensor, "columns d_in"]
    b_enc: Float32[Tensor, " columns"]
    k: int | None
    threshold: Float32[Tensor, " columns"] | float
    features: Int64[Tensor, " columns"] | None
    """The feature of each column; None when column j is feature j."""
    scratch: Scratch
    scale: Float32[Tensor, " columns"] | None = None
    """Multiplied with the pre-activations before anything is decided on them."""
    relu_first: bool = False
    """Whether the k largest are looked for after a ReLU; see `select_topk`."""
    _likely: LikelyBounds = field(default_factory=LikelyBounds, init=False, repr=False)

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseCode:
        """The entries above zero of the codes of `x`, which must be sound (see `is_sound`)."""
        prepared = self.prepare(x)
        positions, columns, values = self._on_cpu(prepared) if x.device.type == "cpu" else self._on_device(prepared)
        return SparseCode(positions, columns if self.features is None else self.features[columns], values)

    def _on_cpu(self, x: Float32[Tensor, "n d_in"]) -> list[Tensor]:
        tiles = tiles_for(max(1, len(self.w_enc)), self.k)
        threshold = self.threshold.numpy() if isinstance(self.threshold, Tensor) else self.threshold
        b_enc = self.b_enc if self.b_enc.any() else None

        def encode(first: int, room: Room) -> Entries:
            products = Products(x[first : first + step], self.w_enc, b_enc, self.scale)
            if self.k is None:
                return select_above(products, threshold, tiles, room)
            return select_topk(products, self.k, tiles, room, self.relu_first, self._likely)

        step = _rows_per_block(len(x), tiles)
        starts = range(0, len(x) if len(self.w_enc) else 0, step)
        return _joined(self.scratch.workers.map(encode, starts), starts)

    def _on_device(self, x: Float32[Tensor, "n d_in"]) -> list[Tensor]:
        """One block after the other; their room is given back for the model's next forward pass."""
        step = max(1, BLOCK_ENTRIES_ON_DEVICE // max(1, len(self.w_enc)))
        room = torch.empty(min(step, len(x)), len(self.w_enc), device=x.device)
        parts = [self._device_block(block, room[: len(block)]) for block in x.split(step)]
        return [
            torch.cat([part.rows + i * step for i, part in enumerate(parts)]),
            torch.cat([part.columns for part in parts]),
            torch.cat([part.values for part in parts]),
        ]

    def _device_block(self, x: Float32[Tensor, "n d_in"], pre: Float32[Tensor, "n columns"]) -> gpu_selection.Selected:
        torch.addmm(self.b_enc, x, self.w_enc.t(), out=pre)
        if self.scale is not None:
            pre.mul_(self.scale)
        if self.k is not None:
            return gpu_selection.select_topk(pre, self.k)
        return gpu_selection.select_above(pre, self.threshold)


def is_sound(x: Float[Tensor, "n d_in"]) -> Bool[Tensor, ""]:
    """Whether every activation is a number small enough to be encoded; a tensor, so that no device is waited for."""
    if x.numel() == 0:
        return torch.tensor(True)
    largest = torch.maximum(x.amax(), -x.amin())  # NaN stays NaN; 15 times as fast as the norm of order infinity
    return largest.float() <= LARGEST_ACTIVATION  # in float16 the limit is infinite


def _rows_per_block(n: int, tiles: Tiles) -> int:
    return min(tiles.rows, max(LEAST_ROWS, -(-n // LEAST_BLOCKS)))


def _joined(parts: Sequence[Entries], starts: Sequence[int]) -> list[Tensor]:
    """Positions, columns and values of all blocks, one behind the other."""
    rows = [part.rows + start for part, start in zip(parts, starts, strict=True)]
    joined = (
        np.concatenate([*rows, np.empty(0, np.int64)]),
        np.concatenate([*(part.columns for part in parts), np.empty(0, np.int64)]),
        np.concatenate([*(part.values for part in parts), np.empty(0, np.float32)]),
    )
    return [torch.from_numpy(array) for array in joined]
