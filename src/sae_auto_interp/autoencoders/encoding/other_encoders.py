"""Encoders that are no plain top k and no plain threshold: gated, groupmax, and the top k by absolute value."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from sae_auto_interp.autoencoders.encoding.encoder import Encoder, SparseCode
from sae_auto_interp.autoencoders.encoding.tiles import product

BLOCK_ENTRIES = 1 << 25
"""Pre-activations at a time: 128 MiB in float32."""


@runtime_checkable
class CodeEncoder(Protocol):
    """What turns sound activations into the entries of their codes, feature indices included."""

    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseCode: ...


@dataclass(frozen=True, slots=True)
class MappedEncoder:
    """Which features fire is decided on the pre-activation; the value is ReLU(gain · pre-activation + offset).

    Gated autoencoders (Rajamanoharan et al. 2024, arXiv 2404.16014): gain exp(r_mag), offset b_mag.
    """

    deciding: Encoder
    gain: Float32[Tensor, " width"]
    offset: Float32[Tensor, " width"]

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseCode:
        code = self.deciding.encode(x)
        values = self.gain[code.features] * code.values + self.offset[code.features]
        if values.device.type != "cpu":  # zeros stand for no entry there: to drop them, the host would have to wait
            return SparseCode(code.positions, code.features, values.clamp(min=0))
        fires = values > 0
        return SparseCode(code.positions[fires], code.features[fires], values[fires])


@dataclass(frozen=True, slots=True)
class GroupMaxEncoder:
    """The largest of each of `k` groups of neighbouring features, if above zero (sparsify's `groupmax`)."""

    plain: Encoder
    k: int

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseCode:
        return encoded_in_blocks(self.plain, x, self._encode_block)

    def _encode_block(self, first: int, pre: Float32[Tensor, "n width"]) -> SparseCode:
        values, within = pre.relu_().unflatten(1, (self.k, -1)).max(dim=2)
        features = within + torch.arange(self.k, device=pre.device) * (pre.shape[1] // self.k)
        return entries(first, features, values, values > 0)


@dataclass(frozen=True, slots=True)
class AbsTopKEncoder:
    """The `k` entries of largest absolute value, with their signs."""

    plain: Encoder
    k: int

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseCode:
        return encoded_in_blocks(self.plain, x, self._encode_block)

    def _encode_block(self, first: int, pre: Float32[Tensor, "n width"]) -> SparseCode:
        features = pre.abs().topk(self.k, dim=1).indices
        values = pre.gather(1, features)
        return entries(first, features, values, values != 0)


def blocks_of_pre_activations(
    plain: Encoder, x: Float[Tensor, "n d_in"]
) -> Iterator[tuple[int, Float32[Tensor, "rows width"]]]:
    """(first position, pre-activations) of blocks of positions whose size is bounded by memory."""
    prepared = plain.prepare(x)
    rows = max(1, BLOCK_ENTRIES // len(plain.w_enc))
    for first in range(0, len(prepared), rows):
        pre = product(prepared[first : first + rows], plain.w_enc, bias=plain.b_enc)
        yield first, pre if plain.scale is None else pre.mul_(plain.scale)


def encoded_in_blocks(
    plain: Encoder, x: Float[Tensor, "n d_in"], encode: Callable[[int, Float32[Tensor, "rows width"]], SparseCode]
) -> SparseCode:
    """The code of `x`, of which `encode` gives that of each block, from (first position, pre-activations)."""
    return joined([encode(first, block) for first, block in blocks_of_pre_activations(plain, x)], x.device)


def entries(
    first: int, features: Int64[Tensor, "n k"], values: Float32[Tensor, "n k"], wanted: Bool[Tensor, "n k"]
) -> SparseCode:
    """The wanted of the same number of candidates for each position, counted from `first`. On a GPU all stay."""
    positions = torch.arange(first, first + len(values), device=values.device)[:, None].expand_as(values)
    if values.device.type != "cpu":
        return SparseCode(positions.reshape(-1), features.reshape(-1), values.reshape(-1))
    return SparseCode(positions[wanted], features[wanted], values[wanted])


def joined(parts: Sequence[SparseCode], device: torch.device) -> SparseCode:
    """Codes of successive blocks as one."""
    if not parts:
        empty = torch.empty(0, dtype=torch.long, device=device)
        return SparseCode(empty, empty, torch.empty(0, device=device))
    return SparseCode(
        torch.cat([part.positions for part in parts]),
        torch.cat([part.features for part in parts]),
        torch.cat([part.values for part in parts]),
    )
