"""What every autoencoder here is, whatever its weights look like: encode, decode, and where it is attached.

`encode` hands over the entries of the codes and nothing else; `forward` is the dense code, for reading in a trace.
"""

from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from sae_auto_interp.autoencoders.encoding.encoder import LARGEST_ACTIVATION, Scratch, SparseCode, is_sound, own_scratch
from sae_auto_interp.autoencoders.encoding.other_encoders import CodeEncoder
from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.models.sites.site import Placement

RECONSTRUCTED_AT_ONCE = 4096
"""Positions whose code `reconstruct` holds at a time."""


class Coder(nn.Module, ABC):
    """Base of all autoencoders. A subclass gives `width`, `d_in`, `encoder` and `decode_sparse`."""

    settings: CoderSettings
    is_part_of_model = False
    """Attached to a subject model it is none of the model's own weights."""
    placement: Placement | None = None
    """Set by `attach`."""
    attached_as: str | None = None
    """The name that `attach` gave it: its module's path, or that and a name of its own (`coder_names`)."""
    own_placement: Placement | None = None
    """Where its files say that it belongs, where it was sent elsewhere."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Features."""

    @property
    @abstractmethod
    def d_in(self) -> int:
        """Dimensions that it reads: of all its sites together."""

    @property
    def device(self) -> torch.device:
        """Where it encodes."""
        return next(self.buffers()).device

    @property
    def reads_token_ids(self) -> bool:
        """Whether it is given token ids, as numbers, and no activations."""
        return self.placement is not None and self.placement.sites[0].transform == "token_ids"

    @abstractmethod
    def encoder(self, features: Int64[Tensor, " kept"] | None = None, scratch: Scratch | None = None) -> CodeEncoder:
        """What encodes with these weights: all features, or at least the given ones, sorted.

        Where the activation looks at one feature at a time, only the columns of `features` are multiplied. Others need
        every column; what is not among `features` is then for the caller to leave out.
        """

    @abstractmethod
    def decode_sparse(self, code: SparseCode, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        """Reconstruction of the positions of `x` from their code."""

    def decode_change(self, change: SparseCode, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        """What is added to the reconstruction of `x` when its code changes by the entries of `change`, of any sign.

        Decoders are affine in the code, so the code itself does not matter.
        """
        nothing = SparseCode(change.positions[:0], change.features[:0], change.values[:0])
        return self.decode_sparse(change, x) - self.decode_sparse(nothing, x)

    def encode(self, x: Shaped[Tensor, "..."], features: Int64[Tensor, " kept"] | None = None) -> SparseCode:
        """The entries of the codes of `x`, [n, d_in], that are not zero (of all but signed coders: above zero), in
        order of position; in float32 whatever the type of `x`, and without a gradient. `features` are as for `encoder`.

        Raises `WeightsError` when `x` has another number of dimensions than the coder reads, and `InputError` when it
        is no matrix of floating-point numbers, or holds NaN, infinite or overflowing values.
        """
        if x.ndim != 2 or not x.is_floating_point():
            raise InputError(
                f"activations are {x.dtype} of shape {list(x.shape)}; encode takes floating-point numbers [n, d_in]"
            )
        self.check_dimensions(x, "the activations have")
        if not bool(is_sound(x)):
            raise InputError(f"activations hold NaN, infinite or larger values than {LARGEST_ACTIVATION:g}")
        return self.encoder(features, own_scratch(self.device)).encode(x)

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch width"]:
        """The dense code: what `submodule.ae.output` shows in a trace."""
        flat = x.reshape(-1, x.shape[-1])
        return self.densified(self.encode(flat), len(flat)).reshape(*x.shape[:-1], self.width)

    def densified(self, code: SparseCode, n: int) -> Float[Tensor, "n width"]:
        """The dense form of the codes of `n` positions."""
        dense = torch.zeros(n, self.width, device=code.values.device)
        dense[code.positions, code.features] = code.values
        return dense

    @torch.no_grad()
    def reconstruct(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        """decode(encode(x)), without a dense code, some thousand positions at a time."""
        parts = [self.decode_sparse(self.encode(part), part) for part in x.split(RECONSTRUCTED_AT_ONCE)]
        return torch.cat(parts)

    def check_dimensions(self, x: Float[Tensor, "*batch d"], found: str) -> None:
        """Raise `WeightsError` unless `x` has as many dimensions as the coder reads."""
        if x.shape[-1] != self.d_in:
            where = self.settings.source or "the autoencoder"
            raise WeightsError(f"{where} reads {self.d_in} dimensions, but {found} {x.shape[-1]}")

    def encoding_facts(self) -> dict[str, Any]:
        """What decides the codes beside the weights, and not what the weights are called; for fingerprints."""
        settings = asdict(self.settings)
        for name in ("bos_is_recorded", "family", "source", "claims", "reconstructs"):
            del settings[name]
        sites = [] if self.placement is None else [str(site) for site in self.placement.sites]
        return settings | {"sites": sites}
