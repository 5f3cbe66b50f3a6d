"""A model's own neurons as features, for comparing autoencoders with what was there before.

In: what a site holds, such as the neurons of an MLP after their activation function. Out: the neuron's value where it
fires, by the top k of a position or above a threshold. Neurons also go below zero; as with autoencoders, what counts
is above. Rotated neurons are the same in a random orthogonal basis, in which nothing is special: a control for the
neuron basis (Elhage et al. 2023, "Privileged Bases in the Transformer Residual Stream").

Plain neurons are selected as they are: there is no product with an identity matrix, and no matrix.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from sae_auto_interp.autoencoders.coder import Coder
from sae_auto_interp.autoencoders.encoding.encoder import Scratch, SparseCode
from sae_auto_interp.autoencoders.encoding.other_encoders import CodeEncoder, entries
from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.errors import InputError
from sae_auto_interp.models.activations import site_width
from sae_auto_interp.models.sites.site import Site
from sae_auto_interp.models.sites.site_names import resolve_site


class NeuronCoder(Coder):
    """The `d_in` neurons of a site: the `k` largest of each position, or those above `threshold`; either is given."""

    threshold: Tensor

    def __init__(self, d_in: int, *, k: int | None = None, threshold: float | None = None) -> None:
        super().__init__()
        self.settings = _settings(d_in, k, threshold, "neurons")
        self._d_in = d_in
        self.register_buffer("threshold", torch.tensor(threshold or 0.0))

    @property
    def width(self) -> int:
        return self._d_in

    @property
    def d_in(self) -> int:
        return self._d_in

    def encoder(self, features: Int64[Tensor, " kept"] | None = None, scratch: Scratch | None = None) -> CodeEncoder:
        return _NeuronEncoder(self.settings.k, self.threshold)

    def decode_sparse(self, code: SparseCode, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
        return self.densified(code, len(x))

    def direction(self, feature: int) -> Float[Tensor, " d_in"]:
        """The neuron's own axis."""
        axis = torch.zeros(self._d_in, device=self.device)
        axis[feature] = 1
        return axis


@dataclass(frozen=True, slots=True)
class _NeuronEncoder:
    k: int | None
    threshold: Float32[Tensor, ""]

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseCode:
        x = x.float()
        if self.k is not None:
            values, features = x.topk(self.k, dim=1)
            return entries(0, features, values.clamp(min=0), values > 0)
        positions, features = (x > self.threshold).nonzero(as_tuple=True)
        return SparseCode(positions, features, x[positions, features])


def rotated_neurons(
    d_in: int, rng: np.random.Generator, *, k: int | None = None, threshold: float | None = None
) -> SparseCoder:
    """Neurons in an orthogonal basis drawn uniformly (Haar): Q of the QR decomposition of a Gaussian matrix."""
    q, r = np.linalg.qr(rng.normal(size=(d_in, d_in)))
    basis = torch.from_numpy((q * np.sign(np.diag(r))).T.astype(np.float32))
    thresholds = None if threshold is None else torch.full((d_in,), threshold)
    weights = CoderWeights(basis, torch.zeros(d_in), basis, torch.zeros(d_in), threshold=thresholds)
    return SparseCoder(weights, _settings(d_in, k, threshold, "rotated_neurons"))


def neuron_coders(
    model: Any,
    module_paths: Sequence[str],
    *,
    k: int | None = None,
    threshold: float | None = None,
    rotation: np.random.Generator | None = None,
) -> dict[Site, Coder]:
    """The neurons at each place, for `attach`. `module_paths` may also be hook names or addresses:
    `blocks.3.mlp.hook_post`, `h.3.mlp.c_proj:in`. With a `rotation`, in a random basis each."""
    coders: dict[Site, Coder] = {}
    for name in module_paths:
        site = resolve_site(model, name)
        width = site_width(model, site)
        if rotation is None:
            coders[site] = NeuronCoder(width, k=k, threshold=threshold)
        else:
            coders[site] = rotated_neurons(width, rotation, k=k, threshold=threshold)
    return coders


def _settings(d_in: int, k: int | None, threshold: float | None, family: str) -> CoderSettings:
    if (k is None) == (threshold is None):
        raise InputError(f"neurons: k={k} and threshold={threshold}; give one of them")
    if k is not None and not 1 <= k <= d_in:
        raise InputError(f"neurons: k={k} does not fit {d_in} neurons")
    if threshold is not None and not 0 <= threshold < float("inf"):
        raise InputError(f"neurons: threshold={threshold} must be a number that is not below zero")
    return CoderSettings(
        activation="jumprelu" if k is None else "topk", k=k, subtract_b_dec=False, prepend_bos=None, family=family,
        source=family, reconstructs=False,
    )  # fmt: skip
