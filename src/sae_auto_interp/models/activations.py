"""Choose how activations are read: plain hooks, the default, or an NNsight trace. Both give the same bits.

The widths of sites are found out by running the model.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from sae_auto_interp.errors import InputError, UnknownNameError
from sae_auto_interp.models.by_hooks import read_activations
from sae_auto_interp.models.placement import input_device, torch_model
from sae_auto_interp.models.site_reader import Read
from sae_auto_interp.models.sites.site import Side, Site

BACKENDS = ("hooks", "nnsight")

ActivationReader = Callable[[Mapping[str, Site | Side], Tensor, Tensor, Read], None]
"""`read_activations` of one model: (sites, tokens, attention_mask, read)."""


def activation_reader(model: Any, backend: str = "hooks") -> ActivationReader:
    """`read_activations` bound to `model`, a torch module or one that NNsight wraps.

    Make it once and use it for every batch: the NNsight backend wraps the model's modules anew here. Raises
    `UnknownNameError` for a backend other than "hooks" and "nnsight".
    """
    if backend == "hooks":
        return partial(read_activations, torch_model(model))
    if backend == "nnsight":
        from sae_auto_interp.models import by_nnsight

        return partial(by_nnsight.read_activations, by_nnsight.plain_trace(model))
    raise UnknownNameError("activation backend", backend, BACKENDS)


def site_width(model: Any, site: Site) -> int:
    """The number of dimensions of one site, by running one token. Raises `InputError` for a site without vectors.

    `attach` needs an answer for models that cannot run, and looks at the module alone; this is right for every site.
    """
    tokens = torch.zeros(1, 1, dtype=torch.long, device=input_device(torch_model(model)))
    return _widths(activation_reader(model), (site,), tokens, torch.ones_like(tokens))[site]


def site_widths(
    read_activations: ActivationReader,
    sites: Iterable[Site],
    tokens: Int[Tensor, "batch seq"],
    mask: Int[Tensor, "batch seq"],
) -> dict[Site, int]:
    """{site: dimensions}, in the order given. Left out are sites that the model does not have, whose module does not
    run, or gives something else than one vector per token."""
    wanted = tuple(dict.fromkeys(sites))
    try:
        return _widths(read_activations, wanted, tokens, mask)
    except InputError:
        found: dict[Site, int] = {}
        for site in wanted:
            try:
                found |= _widths(read_activations, (site,), tokens, mask)
            except InputError:
                continue
        return found


def _widths(
    read_activations: ActivationReader, sites: tuple[Site, ...], tokens: Tensor, mask: Tensor
) -> dict[Site, int]:
    widths: dict[str, int] = {}

    def take(name: str, value: torch.Tensor) -> None:
        widths[name] = value.shape[-1]

    read_activations({str(i): site for i, site in enumerate(sites)}, tokens, mask, take)
    return {site: widths[str(i)] for i, site in enumerate(sites)}
