"""From activations to the entries of their codes, in blocks of positions whose size is bounded by memory.

Each block's pre-activations are one matrix product into a reused buffer, from which `selection` takes what is kept; no
dense code of all positions ever exists. The buffer's rows are a little longer than the width: where their length is a
power of two, processors' caches collide and the product takes up to a quarter longer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from sae_auto_interp.autoencoders.selection import PIECE, Selected, select_above, select_topk

BLOCK_ENTRIES = 1 << 25
"""Pre-activations at a time on a CPU: 128 MiB in float32. Smaller products are slower, larger ones hardly faster."""
BLOCK_ENTRIES_ON_DEVICE = 1 << 27
"""The same on a GPU: 512 MiB; smaller products would leave it idle."""
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
    """Room for one block, reused from call to call; encoders that take turns may share one."""

    _block: Tensor | None = field(default=None, init=False)
    _marks: Tensor | None = field(default=None, init=False)

    def block(self, n: int, width: int, device: torch.device) -> Float32[Tensor, "n padded"]:
        """`padded` is a multiple of PIECE; the columns from `width` on are minus infinity."""
        padded = (width // PIECE + 1) * PIECE
        room = self._block
        if room is None or room.numel() < n * padded or room.device != device:
            room = self._block = torch.empty(n * padded, device=device)
        block = room[: n * padded].view(n, padded)
        block[:, width:] = -torch.inf
        return block

    def marks(self, n: int, width: int, device: torch.device) -> Bool[Tensor, "n width"]:
        room = self._marks
        if room is None or room.numel() < n * width or room.device != device:
            room = self._marks = torch.empty(n * width, dtype=torch.bool, device=device)
        return room[: n * width].view(n, width)


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

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseCode:
        """The entries above zero of the codes of `x`, which must be sound (see `is_sound`)."""
        prepared = self.prepare(x)
        starts = range(0, len(prepared), self._rows_per_block(prepared.device))
        parts = [(first, self._encode_block(prepared[first : first + starts.step])) for first in starts]
        columns = _joined([part.columns for _, part in parts], prepared.device)
        return SparseCode(
            _joined([part.rows + first for first, part in parts], prepared.device),
            columns if self.features is None else self.features[columns],
            _joined([part.values for _, part in parts], prepared.device, torch.float32),
        )

    def _rows_per_block(self, device: torch.device) -> int:
        entries = BLOCK_ENTRIES if device.type == "cpu" else BLOCK_ENTRIES_ON_DEVICE
        return max(1, entries // max(1, len(self.w_enc)))

    def _encode_block(self, x: Float32[Tensor, "n d_in"]) -> Selected:
        n, width = len(x), len(self.w_enc)
        block = self.scratch.block(n, width, x.device)
        torch.addmm(self.b_enc, x, self.w_enc.t(), out=block[:, :width])
        if self.scale is not None:
            block[:, :width].mul_(self.scale)
        if self.k is not None:
            return select_topk(block, width, self.k, self.relu_first)
        return select_above(block[:, :width], self.threshold, self.scratch.marks(n, width, x.device))


def is_sound(x: Float[Tensor, "n d_in"]) -> Bool[Tensor, ""]:
    """Whether every activation is a number small enough to be encoded; a tensor, so that no device is waited for."""
    if x.numel() == 0:
        return torch.tensor(True)
    return torch.linalg.vector_norm(x, torch.inf) <= LARGEST_ACTIVATION


def _joined(parts: list[Tensor], device: torch.device, dtype: torch.dtype = torch.long) -> Tensor:
    return torch.cat(parts) if parts else torch.empty(0, dtype=dtype, device=device)
