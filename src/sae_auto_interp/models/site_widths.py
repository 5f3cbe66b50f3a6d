"""Which of some sites a model really has, and how wide each is, found out by running it."""

from collections.abc import Iterable

import torch
from jaxtyping import Int
from torch import Tensor

from sae_auto_interp.errors import InputError
from sae_auto_interp.models.backends import ActivationReader
from sae_auto_interp.models.site import Site


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
