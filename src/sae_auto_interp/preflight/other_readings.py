"""Other readings of a coder's weights: the mistakes that files and loaders make without a word.

Each is one change. Two at once are not tried: the more is tried, the less says that something fits.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_auto_interp.autoencoders.coder import Coder
from sae_auto_interp.autoencoders.encoding.encoder import Scratch, SparseCode
from sae_auto_interp.autoencoders.encoding.other_encoders import CodeEncoder
from sae_auto_interp.autoencoders.settings import CoderSettings, Normalisation
from sae_auto_interp.autoencoders.sparse_coder import WEIGHT_NAMES, CoderWeights, SparseCoder

_NORMALISED = {
    "none": "without input normalisation",
    "layer_norm": "with its input layer-normalised",
    "constant_norm": "with its input scaled to a constant norm",
}


@dataclass(frozen=True, slots=True)
class Change:
    """A coder that reads the same weights otherwise."""

    what: str
    remedy: str
    coder: Coder


def changes_of(coder: Coder, mean_norm: float | None) -> Iterator[Change]:
    """The changes that a coder's form allows; `mean_norm` is that of its activations, for scaling them."""
    if not isinstance(coder, SparseCoder):
        return
    settings = coder.settings
    for how in get_args(Normalisation):
        if how != settings.normalisation:
            other = replace(settings, normalisation=how)
            yield Change(_NORMALISED[how], f"set normalisation: {how} in the run file", _reread(coder, other))
    yield from _scalings(coder, mean_norm)
    yield from _bias_changes(coder, settings)
    yield from _transpositions(coder)


class ScaledInput(Coder):
    """A coder trained on activations multiplied by `factor`, read on plain ones."""

    def __init__(self, coder: Coder, factor: float) -> None:
        super().__init__()
        self.settings = coder.settings
        self._coder = coder
        self._factor = factor

    @property
    def width(self) -> int:
        return self._coder.width

    @property
    def d_in(self) -> int:
        return self._coder.d_in

    def encoder(self, features: Int64[Tensor, " kept"] | None = None, scratch: Scratch | None = None) -> CodeEncoder:
        return _ScalingEncoder(self._coder.encoder(features, scratch), self._factor)

    def decode_sparse(self, code: SparseCode, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        return self._coder.decode_sparse(code, x.float() * self._factor) / self._factor


@dataclass(frozen=True, slots=True)
class _ScalingEncoder:
    plain: CodeEncoder
    factor: float

    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseCode:
        return self.plain.encode(x.float() * self.factor)


def _scalings(coder: SparseCoder, mean_norm: float | None) -> Iterator[Change]:
    """Datasets scaled to a mean norm of sqrt(d): by the usual factor, and undone where it was done twice."""
    if coder.settings.normalisation != "none" or not mean_norm:
        return
    factor = coder.d_in**0.5 / mean_norm
    for scale, how in ((factor, "multiplied"), (1 / factor, "divided")):
        what = f"with its activations {how} by {factor:.3g} (sqrt(d) over their mean norm)"
        remedy = "fold that factor into its weights, as for normalize_activations='expected_average_only_in'"
        if coder.settings.family == "saelens":
            remedy = f"set norm_scaling_factor: {scale:.6g} in the run file, if its files give none"
        yield Change(what, remedy, ScaledInput(coder, scale))


def _bias_changes(coder: SparseCoder, settings: CoderSettings) -> Iterator[Change]:
    if coder.b_dec.shape[0] != coder.d_in or not bool(coder.b_dec.any()):
        return
    other = not settings.subtract_b_dec
    what = f"with the decoder's bias {'' if other else 'not '}subtracted from its input"
    yield Change(what, f"read it with subtract_b_dec={other}", _reread(coder, replace(settings, subtract_b_dec=other)))


def _transpositions(coder: SparseCoder) -> Iterator[Change]:
    """Only a square matrix can be the wrong way round unnoticed: of others the shapes do not go together."""
    square, same = coder.w_enc.shape[0] == coder.w_enc.shape[1], coder.w_enc.shape == coder.w_dec.shape
    if square:
        what, remedy = "with its encoder transposed", "transpose the encoder's matrix"
        yield Change(what, remedy, _reread(coder, coder.settings, w_enc=coder.w_enc.T))
    if coder.w_dec.shape[0] == coder.w_dec.shape[1]:
        what, remedy = "with its decoder transposed", "transpose the decoder's matrix"
        yield Change(what, remedy, _reread(coder, coder.settings, w_dec=coder.w_dec.T))
    if square and same:
        what, remedy = "with encoder and decoder transposed", "transpose both matrices"
        yield Change(what, remedy, _reread(coder, coder.settings, w_enc=coder.w_enc.T, w_dec=coder.w_dec.T))
    if same:
        what, remedy = "with encoder and decoder exchanged", "exchange the encoder's and the decoder's matrix"
        yield Change(what, remedy, _reread(coder, coder.settings, w_enc=coder.w_dec, w_dec=coder.w_enc))


def _reread(coder: SparseCoder, settings: CoderSettings, **changed: torch.Tensor) -> SparseCoder:
    """The same weights, without a copy of those that are not changed."""
    weights = {name: getattr(coder, name) for name in WEIGHT_NAMES}
    return SparseCoder(CoderWeights(**(weights | changed)), settings)
