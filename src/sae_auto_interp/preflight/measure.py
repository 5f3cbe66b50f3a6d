"""How well coders reconstruct what they are attached to, measured on some rows of text.

For each wiring (a coder and where it reads) over all text tokens, with y what it reconstructs and ŷ its reconstruction:

    L0 = mean number of entries         FVU = sum |y - ŷ|² / sum |y - mean(y)|²

Sums are in float64. The rows go through the model a fixed number at a time, whatever batch size a run has, so that it
changes no figure. Many wirings share one forward pass: trying another place costs an encoding.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_auto_interp.autoencoders.coder import Coder
from sae_auto_interp.autoencoders.encoding.encoder import LARGEST_ACTIVATION
from sae_auto_interp.models.activations import ActivationReader, activation_reader, site_widths
from sae_auto_interp.models.identity import check_token_ids
from sae_auto_interp.models.placement import input_device, torch_model
from sae_auto_interp.models.sites.site import Placement, Site
from sae_auto_interp.types import NO_DOCUMENT, Array, TokenRows
from sae_auto_interp.types.fit import FitFigures

TOKENS_AT_ONCE = 512
"""In one forward pass: the activations of all sites that are compared are in memory together."""
DENSE_FRACTION = 0.1


@dataclass(frozen=True, slots=True)
class Wiring:
    """A coder and where it reads."""

    coder: Coder
    placement: Placement
    is_reversed: bool = False
    """Read the deviations from the mean with their dimensions in reverse order: same norms, same spectrum, and nothing
    that a coder of these activations knows."""


@dataclass(frozen=True, slots=True)
class FitMeter:
    """Measures on some rows of text; made once, used for as many wirings as there are to compare."""

    read_activations: ActivationReader
    device: torch.device
    """Where token ids go."""
    rows: TokenRows
    mask: Int64[Array, "n_rows ctx_len"]
    """The rows' attention mask."""

    @classmethod
    def of(cls, model: Any, backend: str, rows: TokenRows, mask: Int64[Array, "n_rows ctx_len"]) -> "FitMeter":
        """For a torch model or one that NNsight wraps. Raises `InputError` for token ids that it does not have."""
        check_token_ids(torch_model(model), rows.tokens)
        return cls(activation_reader(model, backend), input_device(torch_model(model)), rows, mask)

    def measure(self, wirings: Mapping[str, Wiring]) -> dict[str, FitFigures]:
        """The figures of each wiring, all from one pass over the rows.

        Raises what reading the sites raises, and `WeightsError` for a coder of other dimensions than its site; what it
        reconstructs must have those that it writes (see `fit_search.misfit`).
        """
        sums = {name: FitSums(wiring.coder) for name, wiring in wirings.items()}
        names = {site: str(i) for i, site in enumerate(sites_of(wirings.values()))}
        step = max(1, TOKENS_AT_ONCE // self.rows.ctx_len)
        for first in range(0, self.rows.n_rows, step):
            part = slice(first, first + step)
            read = _SiteValues(self.rows.documents[part])
            self.read_activations({name: site for site, name in names.items()}, *self._inputs(part), read.take)
            for name, wiring in wirings.items():
                _add(sums[name], wiring, read, names)
        return {name: each.figures() for name, each in sums.items()}

    def widths(self, wirings: Iterable[Wiring]) -> dict[Site, int]:
        """{site: dimensions} of all that the wirings read and reconstruct, so far as the model has them."""
        return site_widths(self.read_activations, sites_of(wirings), *self._inputs(slice(0, 1)))

    def _inputs(self, part: slice) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask of some rows."""
        tokens = torch.from_numpy(self.rows.tokens[part].astype(np.int64)).to(self.device)
        return tokens, torch.from_numpy(self.mask[part]).to(self.device)


def sites_of(wirings: Iterable[Wiring]) -> list[Site]:
    """Every site that is read or reconstructed, once."""
    places = [wiring.placement for wiring in wirings]
    return list(dict.fromkeys(site for place in places for site in (*place.sites, place.reconstructed)))


class FitSums:
    """What one wiring's figures are computed from; nothing in it but norms grows with the number of tokens."""

    def __init__(self, coder: Coder) -> None:
        self._coder = coder
        self._n_tokens = self._n_unusable = self._n_entries = 0
        self._fired = torch.zeros(coder.width, dtype=torch.long, device=coder.device)
        self._error = self._square = self._cosine = self._ratio = 0.0
        self._total: Tensor | None = None
        self._norms: list[Tensor] = []
        self._first_norms: list[Tensor] = []

    @torch.no_grad()
    def add(self, x: Float[Tensor, "n d_in"], y: Float[Tensor, "n d_out"], first_norms: Float[Tensor, " rows"]) -> None:
        """More tokens, and the norms of x at the first position of some rows."""
        self._first_norms.append(first_norms.cpu())
        usable = _usable(x) & _usable(y)
        self._n_unusable += int((~usable).sum())
        x, y = x[usable].float(), y[usable].float()
        if len(x) == 0:
            return
        code = self._coder.encode(x)
        fires = code.features[code.values != 0]
        self._fired += torch.bincount(fires, minlength=self._coder.width)
        self._n_entries += len(fires)
        self._n_tokens += len(x)
        self._norms.append(x.norm(dim=-1).cpu())
        if self._coder.settings.reconstructs:
            self._add_reconstruction(y.double(), self._coder.decode_sparse(code, x).double())

    def _add_reconstruction(self, y: Float[Tensor, "n d_out"], out: Float[Tensor, "n d_out"]) -> None:
        total = y.sum(0)
        self._total = total if self._total is None else self._total + total
        self._square += float(y.square().sum())
        self._error += float((y - out).square().sum())
        y_norm, out_norm = y.norm(dim=-1), out.norm(dim=-1)
        smallest = torch.finfo(torch.float64).tiny
        self._cosine += float(((y * out).sum(-1) / (y_norm * out_norm).clamp(min=smallest)).sum())
        self._ratio += float((out_norm / y_norm.clamp(min=smallest))[y_norm > 0].sum())

    def figures(self) -> FitFigures:
        n, width = self._n_tokens, self._coder.width
        if n == 0:
            return FitFigures(n, self._n_unusable, width, *[None] * 10)
        norms, first = torch.cat(self._norms), torch.cat(self._first_norms)
        median = float(norms.median())
        fired = self._fired.cpu()
        variance = self._variance()
        return FitFigures(
            n_tokens=n,
            n_unusable_tokens=self._n_unusable,
            width=width,
            l0=self._n_entries / n,
            fvu=self._error / variance if variance else None,
            cosine=None if self._total is None else self._cosine / n,
            norm_ratio=None if self._total is None else self._ratio / n,
            dead_fraction=float((fired == 0).double().mean()),
            dense_fraction=float((fired > DENSE_FRACTION * n).double().mean()),
            mean_norm=float(norms.double().mean()),
            median_norm=median,
            max_norm=float(norms.max()),
            first_norm_ratio=float(first.mean()) / median if median > 0 and bool(first.isfinite().all()) else None,
        )

    def _variance(self) -> float | None:
        """Sum of squared distances from the mean; None where nothing is left of it but rounding."""
        if self._total is None:
            return None
        variance = self._square - float(self._total.square().sum()) / self._n_tokens
        return variance if variance > 1e-12 * self._square else None


@dataclass(slots=True)
class _SiteValues:
    """What one forward pass gave at each site: the text tokens' vectors, and the first positions' norms."""

    documents: Array
    text: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    first_norms: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def take(self, name: str, value: Float[Tensor, "batch seq d"]) -> None:
        places = torch.from_numpy(np.flatnonzero(self.documents != NO_DOCUMENT)).to(value.device)
        self.text[name] = value.flatten(0, 1).index_select(0, places)
        self.first_norms[name] = value[:, 0].float().norm(dim=-1)


def _add(sums: FitSums, wiring: Wiring, read: _SiteValues, names: Mapping[Site, str]) -> None:
    """Give a wiring what its sites gave, where its coder computes."""
    coder, place = wiring.coder, wiring.placement
    keys = [names[site] for site in place.sites]
    x = torch.cat([read.text[key].to(coder.device) for key in keys], dim=1)
    coder.check_dimensions(x, f"{' and '.join(map(str, place.sites))} gives")
    if wiring.is_reversed and len(x):
        mean = x.float().mean(0)
        x = mean + (x.float() - mean).flip(-1)
    y = x if place.target is None else read.text[names[place.target]].to(coder.device)
    squares = torch.stack([read.first_norms[key].to(coder.device).square() for key in keys])
    sums.add(x, y, squares.sum(0).sqrt())


def _usable(x: Float[Tensor, "n d"]) -> Bool[Tensor, " n"]:
    return x.float().abs().amax(dim=-1) <= LARGEST_ACTIVATION
