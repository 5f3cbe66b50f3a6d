"""What some families do to a vector before the encoder sees it, and undo after the decoder.

- `layer_norm`: (x - mean) / (std + 1e-5) with the unbiased standard deviation and the epsilon added to it, as in
  OpenAI's sparse_autoencoder (not torch's layer norm). On the way out the epsilon is left out: · std + mean.
- `constant_norm`: x * sqrt(d) / |x|, SAELens' `constant_norm_rescale`. A vector of zeros stays one.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

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
