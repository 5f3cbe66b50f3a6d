"""Where a subject model's activations are read: a module, its input or output, and what is done to the vectors.

Autoencoders are not all trained on what a module of the Hugging Face model gives. Some read the residual stream before
a norm's gain is applied (`ln2.hook_normalized` of TransformerLens), some read it with each vector's mean taken off
(models loaded with `center_writing_weights`). Some are functions of the tokens: what the embedding reads, [batch, seq]
whole numbers, is handed over as vectors of one dimension. Such a transform belongs to the place, not to the
autoencoder: every consumer of a site sees the same tensor, whichever backend reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

Side = Literal["input", "output"]
Transform = Literal["none", "centred", "rms_norm", "layer_norm", "token_ids"]


@dataclass(frozen=True, slots=True)
class Site:
    """One tensor of the forward pass, [batch, seq, d]."""

    module_path: str
    """Full dotted path, as `named_modules` spells it."""
    side: Side = "output"
    item: int = 0
    """Which item, where the output is a tuple."""
    transform: Transform = "none"
    epsilon: float = 0.0
    """Epsilon of the norms: added to the mean square, or to the variance."""

    def __str__(self) -> str:
        item = f"#{self.item}" if self.item else ""
        after = "" if self.transform == "none" else f" ({self.transform})"
        return f"{self.module_path}:{'in' if self.side == 'input' else 'out'}{item}{after}"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an autoencoder reads, in the order of the forward pass, and what it reconstructs.

    All have one site but crosscoders, which read several side by side. `target` is another site for transcoders; None
    for autoencoders, which reconstruct what they read.
    """

    sites: tuple[Site, ...]
    target: Site | None = None

    @property
    def home(self) -> str:
        """The module that the autoencoder is attached to: the deepest that it reads."""
        return self.sites[-1].module_path

    @property
    def reconstructed(self) -> Site:
        return self.target or self.sites[-1]


def as_sites(sites: Mapping[str, Site | Side]) -> dict[str, Site]:
    """`{module path: side}` written out; sites stay as they are, under whatever names they have."""
    return {name: site if isinstance(site, Site) else Site(name, site) for name, site in sites.items()}


def transformed(site: Site, x: Shaped[Tensor, "..."]) -> Float[Tensor, "*batch d"]:
    """What a reader of `site` sees of the module's own `x`; float32 where anything is computed, else `x` itself.

    Of `token_ids`, `x` is [*batch] whole numbers: exact in float32 up to 2^24, more than any vocabulary has.
    """
    if site.transform == "none":
        return x
    if site.transform == "token_ids":
        return x[..., None].float()
    x = x.float()
    if site.transform == "rms_norm":
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + site.epsilon)
    centred = x - x.mean(-1, keepdim=True)
    if site.transform == "centred":
        return centred
    return centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + site.epsilon)
