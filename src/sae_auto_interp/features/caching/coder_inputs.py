"""Which sites of the model some autoencoders read, and what each of them is given once all of its sites were read."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sae_auto_interp.autoencoders.coder import Coder
from sae_auto_interp.models.site_reader import Read
from sae_auto_interp.models.sites.site import Placement, Site


class CoderInputs:
    """The inputs of `coders`, {module path: coder}. All have one site but crosscoders, whose sites' vectors go side by
    side."""

    def __init__(self, coders: Mapping[str, Coder]) -> None:
        self._coders = coders
        parts = {path: _named_sites(path, coder) for path, coder in coders.items()}
        self._path_of = {name: path for path, sites in parts.items() for name in sites}
        self._names = {path: tuple(sites) for path, sites in parts.items()}
        self.sites: dict[str, Site] = {name: site for sites in parts.values() for name, site in sites.items()}
        """By name, for `read_activations`."""

    def reader(self, take: Callable[[str, Tensor], None]) -> Read:
        """For one forward pass: calls `take(module path, [batch, seq, d_in])` as soon as a coder's sites are read."""
        waiting: dict[str, dict[str, Tensor]] = {path: {} for path in self._coders}

        def read(name: str, activations: Tensor) -> None:
            path = self._path_of[name]
            names = self._names[path]
            if len(names) == 1:
                take(path, activations)
                return
            waiting[path][name] = activations.to(self._coders[path].device)
            if len(waiting[path]) == len(names):
                take(path, torch.cat([waiting[path].pop(part) for part in names], dim=-1))

        return read


def _named_sites(path: str, coder: Coder) -> dict[str, Site]:
    """A coder's sites: one under its module's path, several under numbered names."""
    placement = coder.placement or Placement((Site(path, coder.settings.side),))
    if len(placement.sites) == 1:
        return {path: placement.sites[0]}
    return {f"{path}#{i}": site for i, site in enumerate(placement.sites)}
