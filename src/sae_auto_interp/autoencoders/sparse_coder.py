"""The one form that every weight format is read into, and how it encodes.

    pre = (normalise(x) - [input bias] b_dec) @ W_enc.T + b_enc
    code = activation(pre)          topk(k) | relu | jumprelu(threshold)
    reconstruction = denormalise(code @ W_dec + b_dec)

Encoder rows are stored contiguous, [width, d_in]. `encode` hands over the entries above zero and nothing else (see
`encoder` for how); `forward` is the dense code, for reading in a trace.
Norms follow OpenAI's sparse_autoencoder: unbiased standard deviation, epsilon added to it.
"""

import math
from dataclasses import dataclass, fields
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sae_auto_interp.autoencoders.encoder import LARGEST_ACTIVATION, Encoder, Scratch, SparseCode, is_sound
from sae_auto_interp.errors import InputError, WeightsError

Activation = Literal["topk", "relu", "jumprelu"]
Normalisation = Literal["none", "layer_norm"]
Side = Literal["input", "output"]
LAYER_NORM_EPSILON = 1e-5
LARGEST_WEIGHT = 1e15


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
        """Entries above zero of the codes of `x`; encoded in float32 whatever the type of `x`, and without a gradient.

        Raises `WeightsError` when `x` has another number of dimensions than the coder reads, and `InputError` when it
        holds NaN, infinite or overflowing values.
        """
        self.check_dimensions(x, "the activations have")
        if not bool(is_sound(x)):
            raise InputError(f"activations hold NaN, infinite or larger values than {LARGEST_ACTIVATION:g}")
        return self.encoder().encode(x)

    def encoder(self, features: Int64[Tensor, " kept"] | None = None, scratch: Scratch | None = None) -> Encoder:
        """What encodes with these weights: all features, or only the given ones, sorted.

        Where the activation looks at one feature at a time (ReLU, JumpReLU), only the columns of `features` are
        multiplied. A top k needs every column; what is not among `features` is for the caller to leave out.
        """
        w, b = self.w_enc, self.b_enc
        threshold = None if self.threshold is None else self.threshold.clamp(min=0)
        k = self.settings.k if self.settings.activation == "topk" else None
        narrowed = None if features is None or k is not None else features.to(w.device)
        if narrowed is not None:
            w, b = w[narrowed], b[narrowed]
            threshold = None if threshold is None else threshold[narrowed]
        least = 0.0 if threshold is None else threshold
        return Encoder(self._prepare, w, b, k, least, narrowed, scratch or Scratch())

    def check_dimensions(self, x: Float[Tensor, "*batch d"], found: str) -> None:
        """Raise `WeightsError` unless `x` has as many dimensions as the coder reads."""
        if x.shape[-1] != self.d_in:
            where = self.settings.source or "the autoencoder"
            raise WeightsError(f"{where} reads {self.d_in} dimensions, but {found} {x.shape[-1]}")

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


def _layer_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    mean = x.mean(-1, keepdim=True)
    return mean, (x - mean).std(-1, keepdim=True)


def _check(weights: CoderWeights, settings: CoderSettings) -> None:
    where = settings.source or "the given weights"
    _check_shapes(weights, where)
    width, d_in = weights.w_enc.shape
    for name in WEIGHT_NAMES:
        value: Tensor | None = getattr(weights, name)
        if value is not None:
            _check_numbers(value, name, where)
    if settings.activation == "topk" and not 1 <= (settings.k or 0) <= width:
        raise WeightsError(f"{where}: top-k activation with k={settings.k} does not fit a width of {width}")
    if settings.activation == "jumprelu" and weights.threshold is None:
        raise WeightsError(f"{where}: a JumpReLU autoencoder without thresholds")
    if settings.subtract_b_dec and weights.b_dec.shape[0] != d_in:
        raise WeightsError(f"{where}: b_dec has {weights.b_dec.shape[0]} entries, but the encoder reads {d_in}")


def _check_numbers(value: Tensor, name: str, where: str) -> None:
    largest = float(torch.linalg.vector_norm(value.float(), torch.inf))
    if not math.isfinite(largest):
        raise WeightsError(f"{where}: {name} holds NaN or infinite values; the file is damaged or not an autoencoder")
    if largest > LARGEST_WEIGHT and name != "threshold":
        raise WeightsError(f"{where}: {name} holds {largest:.3g}; the file is damaged or not an autoencoder")


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
