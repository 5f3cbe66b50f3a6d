"""Everything about an autoencoder that is not a weight: how it encodes, and what it says of itself.

A normalisation is what some families do to a vector before the encoder sees it, and undo after the decoder:

- `layer_norm`: (x - mean) / (std + 1e-5) with the unbiased standard deviation and the epsilon added to it, as in
  OpenAI's sparse_autoencoder (not torch's layer norm). On the way out the epsilon is left out: · std + mean.
- `constant_norm`: x * sqrt(d) / |x|, SAELens' `constant_norm_rescale`. A vector of zeros stays one.
"""

from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sae_auto_interp.models.hub import PREFIX as HUB_PREFIX
from sae_auto_interp.models.sites.site import Side

Normalisation = Literal["none", "layer_norm", "constant_norm"]
LAYER_NORM_EPSILON = 1e-5


def normalise(x: Float[Tensor, "n d"], how: Normalisation) -> Float[Tensor, "n d"]:
    """`x` as the encoder reads it."""
    if how == "none":
        return x
    shift, scale = _shift_and_scale(x, how)
    return (x - shift) / (scale + LAYER_NORM_EPSILON if how == "layer_norm" else scale)


def denormalise(
    out: Float[Tensor, "n d_out"], x: Float[Tensor, "n d_in"], how: Normalisation
) -> Float[Tensor, "n d_out"]:
    """The decoder's output in the scale of the input `x`."""
    if how == "none":
        return out
    shift, scale = _shift_and_scale(x, how)
    return out * scale + shift


def rescale(change: Float[Tensor, "n d"], x: Float[Tensor, "n d_in"], how: Normalisation) -> Float[Tensor, "n d"]:
    """A change of the decoder's output in the scale of the input `x`."""
    return change if how == "none" else change * _shift_and_scale(x, how)[1]


def _shift_and_scale(x: Tensor, how: Normalisation) -> tuple[Tensor, Tensor]:
    if how == "layer_norm":
        mean = x.mean(-1, keepdim=True)
        return mean, (x - mean).std(-1, keepdim=True)
    norm = x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5
    return torch.zeros_like(norm), norm.where(norm > 0, 1.0)


Activation = Literal["topk", "relu", "jumprelu", "gated", "groupmax", "abstopk"]
HAS_K: tuple[Activation, ...] = ("topk", "groupmax", "abstopk")


@dataclass(frozen=True, slots=True)
class CoderClaims:
    """What the files say about the autoencoder, for checking it against the model; None where they say nothing."""

    model: str | None = None
    """Hub id or name of the subject model that it was trained on."""
    l0: float | None = None
    """Features that fire per token, on average."""
    hook: str | None = None
    """Where it reads, in the words of its files."""
    ctx_len: int | None = None
    dataset: str | None = None


@dataclass(frozen=True, slots=True)
class CoderSettings:
    """How an autoencoder encodes. What it is called and claims changes no code; everything else may."""

    activation: Activation
    k: int | None = None
    """Entries kept by `topk` and `abstopk`; groups of `groupmax`, of which each keeps one."""
    relu_before_topk: bool = False
    """Whether a ReLU comes before `topk`: it decides nothing but which of equal pre-activations are kept."""
    subtract_b_dec: bool = True
    normalisation: Normalisation = "none"
    side: Side = "output"
    """Where it reads when it is attached to a bare module path."""
    prepend_bos: bool | None = False
    """Whether rows began with the BOS token in training; None: either will do."""
    bos_is_recorded: bool = field(default=False, compare=False)
    """Whether the files, or the caller, say so; otherwise `prepend_bos` is what the family does as a rule. It
    changes nothing about what is encoded."""
    family: str = "unknown"
    source: str = ""
    """File, directory or hub address (`hf:owner/repo/path@commit`) that the weights were read from, for messages and
    manifests."""
    claims: CoderClaims = CoderClaims()
    reconstructs: bool = True
    """False where nothing was trained to reconstruct (neurons, random weights), and of one layer of a cross-layer
    transcoder, whose decoder rows are only to be looked at."""

    @property
    def hub_source(self) -> str:
        """`source`, if it is an address on the hub, commit included; else empty."""
        return self.source if self.source.startswith(HUB_PREFIX) else ""

    @property
    def source_name(self) -> str:
        """The last part of `source`, without a commit."""
        path = self.hub_source.rpartition("@")[0] or self.source
        return PurePath(path).name

    @property
    def is_signed(self) -> bool:
        """Whether codes may be negative. The cache keeps what is above zero."""
        return self.activation == "abstopk"
