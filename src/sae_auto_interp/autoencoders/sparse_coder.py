"""The one form that nearly every weight format is read into, and how it encodes.

    pre = ((normalise(x) - [input bias] b_dec) @ W_enc.T + b_enc) [· scale]
    code = activation(pre)          see `settings.Activation`
    reconstruction = denormalise(code @ W_dec + b_dec) [+ x @ W_skip.T]

Encoder rows are stored contiguous, [width, d_in]. Gated coders decide on pre > threshold and give
ReLU(gain · pre + offset).
"""

import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_auto_interp.autoencoders.coder import Coder
from sae_auto_interp.autoencoders.encoding.encoder import Encoder, Scratch, SparseCode
from sae_auto_interp.autoencoders.encoding.other_encoders import (
    AbsTopKEncoder,
    CodeEncoder,
    GroupMaxEncoder,
    MappedEncoder,
)
from sae_auto_interp.autoencoders.settings import HAS_K, CoderSettings, denormalise, normalise, rescale
from sae_auto_interp.errors import WeightsError

LARGEST_WEIGHT = 1e15
GATHERED_AT_ONCE = 1 << 16
"""Rows of the decoder that `decode_sparse` holds a copy of."""


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
    """[width], for JumpReLU and gated coders: a pre-activation at or below it is silent."""
    gain: Float[Tensor, "..."] | None = None
    """[width], with `offset`: of what fires, the value is ReLU(gain · pre + offset) instead of pre."""
    offset: Float[Tensor, "..."] | None = None
    """[width]"""
    scale: Float[Tensor, "..."] | None = None
    """[width]: factor of the pre-activation, before the activation looks at it."""
    w_skip: Float[Tensor, "..."] | None = None
    """[d_out, d_in], of transcoders: the raw input's own way to the output."""

    def __post_init__(self) -> None:
        """Biases and thresholds of shape [1, n] or [n, 1] are [n]."""
        for name in VECTORS:
            value: Tensor | None = getattr(self, name)
            if value is not None and value.ndim == 2 and 1 in value.shape:
                object.__setattr__(self, name, value.flatten())


VECTORS = ("b_enc", "b_dec", "threshold", "gain", "offset", "scale")
WEIGHT_NAMES = tuple(field.name for field in fields(CoderWeights))


class SparseCoder(Coder):
    """A sparse autoencoder or transcoder in canonical form. Weights are float32 buffers: nothing here is trained.

    Raises `WeightsError` when shapes disagree or a weight is NaN or infinite.
    """

    w_enc: Tensor
    b_enc: Tensor
    w_dec: Tensor
    b_dec: Tensor
    threshold: Tensor | None
    gain: Tensor | None
    offset: Tensor | None
    scale: Tensor | None
    w_skip: Tensor | None
    holds_value_bias = False
    """Whether a bias of the model at its place was made part of the weights, which then fit no other place."""

    def __init__(self, weights: CoderWeights, settings: CoderSettings) -> None:
        super().__init__()
        _check(weights, settings)
        self.settings = settings
        for name in WEIGHT_NAMES:
            is_used = name != "threshold" or settings.activation in ("jumprelu", "gated")
            value: Tensor | None = getattr(weights, name) if is_used else None
            self.register_buffer(name, None if value is None else value.detach().float().contiguous())

    @property
    def width(self) -> int:
        return self.w_enc.shape[0]

    @property
    def d_in(self) -> int:
        return self.w_enc.shape[1]

    def encoder(self, features: Int64[Tensor, " kept"] | None = None, scratch: Scratch | None = None) -> CodeEncoder:
        activation, k = self.settings.activation, self.settings.k
        only = None if features is None or activation in HAS_K else features.to(self.device)
        plain = Encoder(
            self._prepare,
            _some(self.w_enc, only),
            _some(self.b_enc, only),
            k if activation == "topk" else None,
            self._least(only),
            only,
            scratch or Scratch(),
            None if self.scale is None else _some(self.scale, only),
            self.settings.relu_before_topk,
        )
        if activation == "groupmax":
            return GroupMaxEncoder(plain, k or 1)
        if activation == "abstopk":
            return AbsTopKEncoder(plain, k or 1)
        if self.gain is not None and self.offset is not None:
            return MappedEncoder(plain, self.gain, self.offset)
        return plain

    def decode(
        self, codes: Float[Tensor, "n width"], x: Float[Tensor, "n d_in"] | None = None
    ) -> Float[Tensor, "n d_out"]:
        """Reconstruction from dense codes; coders that normalise or have a skip connection need the input `x` too."""
        return self._finished(codes @ self.w_dec, x)

    def decode_sparse(self, code: SparseCode, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        return self._finished(self._written(code, len(x)), x)

    def decode_change(self, change: SparseCode, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        return rescale(self._written(change, len(x)), x.float(), self.settings.normalisation)

    def _written(self, code: SparseCode, n: int) -> Float[Tensor, "n d_out"]:
        """The entries times the decoder's rows, summed at each of `n` positions."""
        out = torch.zeros(n, self.w_dec.shape[1], device=self.w_dec.device)
        for first in range(0, len(code.values), GATHERED_AT_ONCE):
            places = slice(first, first + GATHERED_AT_ONCE)
            rows = self.w_dec[code.features[places]] * code.values[places, None]
            out.index_add_(0, code.positions[places], rows)
        return out

    def direction(self, feature: int) -> Float[Tensor, " d_out"]:
        """What the feature writes: its row of the decoder."""
        return self.w_dec[feature]

    def _finished(self, out: Tensor, x: Tensor | None) -> Tensor:
        out = out + self.b_dec
        if self.settings.normalisation == "none" and self.w_skip is None:
            return out
        if x is None:
            raise ValueError("this coder needs its input to decode: pass x as well")
        x = x.float()
        out = denormalise(out, x, self.settings.normalisation)
        return out if self.w_skip is None else out + x @ self.w_skip.T

    def _prepare(self, x: Tensor) -> Tensor:
        x = normalise(x.float(), self.settings.normalisation)
        return x - self.b_dec if self.settings.subtract_b_dec else x

    def _least(self, only: Tensor | None) -> Tensor | float:
        """What pre-activations must be above: JumpReLU also cuts off what is below zero, a gate does not."""
        if self.threshold is None:
            return 0.0
        threshold = _some(self.threshold, only)
        return threshold if self.settings.activation == "gated" else threshold.clamp(min=0)


def _some(values: Tensor, only: Tensor | None) -> Tensor:
    return values if only is None else values[only]


def _check(weights: CoderWeights, settings: CoderSettings) -> None:
    where = settings.source or "the given weights"
    check_shapes(weights, where)
    width, d_in = weights.w_enc.shape
    for name in WEIGHT_NAMES:
        value: Tensor | None = getattr(weights, name)
        if value is not None:
            _check_numbers(value, name, where)
    if settings.activation in HAS_K and not 1 <= (settings.k or 0) <= width:
        raise WeightsError(f"{where}: {settings.activation} with k={settings.k} does not fit a width of {width}")
    if settings.activation == "groupmax" and width % (settings.k or 1):
        raise WeightsError(f"{where}: groupmax with k={settings.k} does not divide a width of {width}")
    if settings.activation in ("jumprelu", "gated") and weights.threshold is None:
        raise WeightsError(f"{where}: a {settings.activation} autoencoder without thresholds")
    if (weights.gain is None) != (weights.offset is None):
        raise WeightsError(f"{where}: gain and offset go together")
    if settings.subtract_b_dec and weights.b_dec.shape[0] != d_in:
        raise WeightsError(f"{where}: b_dec has {weights.b_dec.shape[0]} entries, but the encoder reads {d_in}")


def _check_numbers(value: Tensor, name: str, where: str) -> None:
    largest = float(torch.linalg.vector_norm(value.float(), torch.inf))
    if not math.isfinite(largest):
        raise WeightsError(f"{where}: {name} holds NaN or infinite values; the file is damaged or not an autoencoder")
    if largest > LARGEST_WEIGHT and name != "threshold":
        raise WeightsError(f"{where}: {name} holds {largest:.3g}; the file is damaged or not an autoencoder")


def check_shapes(weights: CoderWeights, where: str) -> None:
    """Raise `WeightsError` about `where` unless the others go with the encoder, whose shape is taken as given."""
    if weights.w_enc.ndim != 2 or 0 in weights.w_enc.shape:
        raise WeightsError(f"{where}: w_enc has shape {tuple(weights.w_enc.shape)}, but must be a matrix with entries")
    width = weights.w_enc.shape[0]
    is_decoder = weights.w_dec.ndim == 2 and weights.w_dec.shape[0] == width
    d_out = weights.w_dec.shape[1] if is_decoder else weights.b_dec.numel()
    expected = {
        "b_dec": (d_out,),
        "b_enc": (width,),
        "w_dec": (width, d_out),
        "threshold": (width,),
        "gain": (width,),
        "offset": (width,),
        "scale": (width,),
        "w_skip": (d_out, weights.w_enc.shape[1]),
    }
    for name, shape in expected.items():
        value: Tensor | None = getattr(weights, name)
        if value is not None and tuple(value.shape) != shape:
            may_be_transposed = name not in VECTORS or value.numel() in weights.w_enc.shape
            raise WeightsError(
                f"{where}: {name} has shape {tuple(value.shape)}, but beside w_enc {tuple(weights.w_enc.shape)} "
                f"it must be {shape}{'; is a matrix transposed?' if may_be_transposed else ''}"
            )
