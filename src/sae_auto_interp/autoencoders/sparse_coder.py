"""The one form that every weight format is read into, and how it encodes.

    pre = (normalise(x) - [input bias] b_dec) @ W_enc.T + b_enc
    code = activation(pre)          topk(k) | relu | jumprelu(threshold)
    reconstruction = denormalise(code @ W_dec + b_dec)

Encoder rows are stored contiguous, [width, d_in]. `encode` hands over the entries above zero and
nothing else: TopK gives its top k, the others are computed in blocks of columns and compacted block by
block, so no dense [n, width] code is ever kept. `forward` is the dense code, for reading in a trace.
Norms follow OpenAI's sparse_autoencoder: unbiased standard deviation, epsilon added to it.
"""

from dataclasses import dataclass, fields
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sae_auto_interp.errors import WeightsError

Activation = Literal["topk", "relu", "jumprelu"]
Normalisation = Literal["none", "layer_norm"]
Side = Literal["input", "output"]
LAYER_NORM_EPSILON = 1e-5
BLOCK_ENTRIES = 1 << 22
"""Pre-activations computed at a time (16 MiB in float32: larger blocks leave a CPU's cache and are slower)."""


@dataclass(frozen=True, slots=True)
class SparseCode:
    """The entries above zero of n codes, in order of position."""

    positions: Int64[Tensor, " nnz"]
    features: Int64[Tensor, " nnz"]
    values: Float[Tensor, " nnz"]


@dataclass(frozen=True, slots=True)
class CoderWeights:
    """Weights in the canonical orientation, as a loader hands them over.

    They come from users' files, so it is `SparseCoder` that checks their shapes, with an error that a user can read.
    """

    w_enc: Float[Tensor, "..."]
    """[width, d_in]"""
    b_enc: Float[Tensor, "..."]
    """[width]"""
    w_dec: Float[Tensor, "..."]
    """[width, d_out]"""
    b_dec: Float[Tensor, "..."]
    """[d_out]"""
    threshold: Float[Tensor, "..."] | None = None
    """[width], for JumpReLU: a pre-activation at or below it is silent."""


WEIGHT_NAMES = tuple(field.name for field in fields(CoderWeights))


@dataclass(frozen=True, slots=True)
class CoderSettings:
    """Everything about a coder that is not a weight."""

    activation: Activation
    k: int | None = None
    subtract_b_dec: bool = True
    normalisation: Normalisation = "none"
    side: Side = "output"
    prepend_bos: bool = False
    family: str = "unknown"
    source: str = ""
    """File or directory that the weights were read from, for messages and manifests."""


class SparseCoder(nn.Module):
    """A sparse autoencoder in canonical form. Weights are float32 buffers: nothing here is trained.

    Raises `WeightsError` when shapes disagree or a weight is NaN or infinite.
    """

    w_enc: Tensor
    b_enc: Tensor
    w_dec: Tensor
    b_dec: Tensor
    threshold: Tensor | None

    def __init__(self, weights: CoderWeights, settings: CoderSettings) -> None:
        super().__init__()
        _check(weights, settings)
        self.settings = settings
        for name in WEIGHT_NAMES:
            is_used = name != "threshold" or settings.activation == "jumprelu"
            value: Tensor | None = getattr(weights, name) if is_used else None
            self.register_buffer(name, None if value is None else value.detach().float().contiguous())

    @property
    def width(self) -> int:
        return self.w_enc.shape[0]

    @property
    def d_in(self) -> int:
        return self.w_enc.shape[1]

    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseCode:
        """Entries above zero of the codes of `x`; encoded in float32 whatever the type of `x`.

        Raises `WeightsError` when `x` has another number of dimensions than the coder reads.
        """
        if x.shape[-1] != self.d_in:
            where = self.settings.source or "the autoencoder"
            raise WeightsError(f"{where} reads {self.d_in} dimensions, but the activations have {x.shape[-1]}")
        prepared = self._prepare(x)
        if self.settings.activation == "topk":
            return self._encode_topk(prepared)
        return self._encode_blocks(prepared)

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch width"]:
        """The dense code: what `submodule.ae.output` shows in a trace."""
        flat = x.reshape(-1, x.shape[-1])
        code = self.encode(flat)
        dense = torch.zeros(flat.shape[0], self.width, device=flat.device)
        dense[code.positions, code.features] = code.values
        return dense.reshape(*x.shape[:-1], self.width)

    def decode(
        self, codes: Float[Tensor, "n width"], x: Float[Tensor, "n d_in"] | None = None
    ) -> Float[Tensor, "n d_out"]:
        """Reconstruction from dense codes; layer-normalised coders need the input `x` to undo the norm."""
        out = codes @ self.w_dec + self.b_dec
        if self.settings.normalisation == "none":
            return out
        if x is None:
            raise ValueError("this coder normalises its input: pass the input to decode as well")
        mean, deviation = _layer_statistics(x.float())
        return out * (deviation + LAYER_NORM_EPSILON) + mean

    def _prepare(self, x: Tensor) -> Tensor:
        x = x.float()
        if self.settings.normalisation == "layer_norm":
            mean, deviation = _layer_statistics(x)
            x = (x - mean) / (deviation + LAYER_NORM_EPSILON)
        return x - self.b_dec if self.settings.subtract_b_dec else x

    def _encode_topk(self, x: Tensor) -> SparseCode:
        """Block by block of positions: the top k needs a position's whole width, but never that of all positions."""
        k = self.settings.k or 0
        values = x.new_empty(x.shape[0], k)
        features = torch.empty(x.shape[0], k, dtype=torch.long, device=x.device)
        block = max(1, BLOCK_ENTRIES // self.width)
        for first in range(0, x.shape[0], block):
            rows = slice(first, first + block)
            values[rows], features[rows] = nn.functional.linear(x[rows], self.w_enc, self.b_enc).topk(k, dim=-1)
        fires = values > 0
        return SparseCode(fires.nonzero()[:, 0], features[fires], values[fires])

    def _encode_blocks(self, x: Tensor) -> SparseCode:
        block = max(1, BLOCK_ENTRIES // max(1, x.shape[0]))
        starts = range(0, self.width, block)
        parts = [self._encode_columns(x, first, min(first + block, self.width)) for first in starts]
        positions, features, values = (torch.cat(column) for column in zip(*parts, strict=True))
        order = torch.argsort(positions, stable=True)
        return SparseCode(positions[order], features[order], values[order])

    def _encode_columns(self, x: Tensor, first: int, last: int) -> tuple[Tensor, Tensor, Tensor]:
        pre = nn.functional.linear(x, self.w_enc[first:last], self.b_enc[first:last])
        fires = pre > 0
        if self.threshold is not None:
            fires &= pre > self.threshold[first:last]
        positions, columns = fires.nonzero(as_tuple=True)
        return positions, columns + first, pre[positions, columns]


def _layer_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    mean = x.mean(-1, keepdim=True)
    return mean, (x - mean).std(-1, keepdim=True)


def _check(weights: CoderWeights, settings: CoderSettings) -> None:
    where = settings.source or "the given weights"
    _check_shapes(weights, where)
    width, d_in = weights.w_enc.shape
    for name in WEIGHT_NAMES:
        value: Tensor | None = getattr(weights, name)
        if value is not None and not bool(torch.isfinite(value).all()):
            raise WeightsError(
                f"{where}: {name} holds NaN or infinite values; the file is damaged or not an autoencoder"
            )
    if settings.activation == "topk" and not 1 <= (settings.k or 0) <= width:
        raise WeightsError(f"{where}: top-k activation with k={settings.k} does not fit a width of {width}")
    if settings.activation == "jumprelu" and weights.threshold is None:
        raise WeightsError(f"{where}: a JumpReLU autoencoder without thresholds")
    if settings.subtract_b_dec and weights.b_dec.shape[0] != d_in:
        raise WeightsError(f"{where}: b_dec has {weights.b_dec.shape[0]} entries, but the encoder reads {d_in}")


def _check_shapes(weights: CoderWeights, where: str) -> None:
    """The encoder's shape is taken as given; the others must go with it."""
    if weights.w_enc.ndim != 2 or 0 in weights.w_enc.shape:
        raise WeightsError(f"{where}: w_enc has shape {tuple(weights.w_enc.shape)}, but must be a matrix with entries")
    width = weights.w_enc.shape[0]
    expected = {
        "b_dec": (weights.b_dec.numel(),),
        "b_enc": (width,),
        "w_dec": (width, weights.b_dec.numel()),
        "threshold": (width,),
    }
    for name, shape in expected.items():
        value: Tensor | None = getattr(weights, name)
        if value is not None and tuple(value.shape) != shape:
            raise WeightsError(
                f"{where}: {name} has shape {tuple(value.shape)}, but beside w_enc {tuple(weights.w_enc.shape)} "
                f"it must be {shape}; is a matrix transposed?"
            )
