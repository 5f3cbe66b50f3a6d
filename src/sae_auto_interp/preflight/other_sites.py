"""Other places of a model where a coder might belong: those around where it is attached.

In this order, which decides between equal fits: the same place in every other block, every named place of its own block
and of those beside it (`models.hook_names`), and last all that is transformed. Of an architecture without a table only
the module itself is known, and its other side.
"""

from dataclasses import replace
from typing import Any

from sae_auto_interp.errors import InputError
from sae_auto_interp.models.sites.hook_names import sites_of_layer
from sae_auto_interp.models.sites.site import Placement, Site
from sae_auto_interp.models.sites.text_stack import TextStack, joined, text_stack


def other_placements(model: Any, placement: Placement) -> dict[Placement, str]:
    """{placement: what is other about it}. None for coders that read several sites side by side."""
    if len(placement.sites) != 1:
        return {}
    (site,), target = placement.sites, placement.target
    names = _hook_names(model)
    found = {Placement((other,), target): f"at {named(other, names)}" for other in other_sites(model, site)}
    if target is not None:
        for other in other_sites(model, target):
            found[Placement((site,), other)] = f"reconstructing {named(other, names)}"
    return {place: what for place, what in found.items() if place != placement}


def other_sites(model: Any, site: Site) -> list[Site]:
    """The sites to try instead of `site`, each once."""
    transforms = [replace(site, transform=how, epsilon=0.0) for how in ("none", "centred") if how != site.transform]
    stack = _stack(model)
    layer = None if stack is None else layer_of(stack, site)
    if stack is None or layer is None:
        elsewhere = [replace(site, side="input" if site.side == "output" else "output", item=0)]
    else:
        beside = [near for near in (layer, layer - 1, layer + 1) if 0 <= near < stack.n_layers]
        elsewhere = [
            *_in_other_layers(stack, site, layer),
            *(each for near in beside for each in sites_of_layer(model, near).values()),
        ]
    found = dict.fromkeys([*elsewhere, *transforms])
    return sorted((other for other in found if other != site), key=lambda other: other.transform != "none")


def layer_of(stack: TextStack, site: Site) -> int | None:
    """The block that a site lies in."""
    for layer in range(stack.n_layers):
        block = stack.path_to(stack.block_path(layer))
        if site.module_path == block or site.module_path.startswith(block + "."):
            return layer
    return None


def named(site: Site, names: dict[Site, str]) -> str:
    """The address of a site, with its hook name where it has one."""
    return f"{site} ({names[site]})" if site in names else str(site)


def _hook_names(model: Any) -> dict[Site, str]:
    """{site: hook name} of the whole model; of two names the first."""
    stack = _stack(model)
    found: dict[Site, str] = {}
    for layer in range(0 if stack is None else stack.n_layers):
        for name, site in sites_of_layer(model, layer).items():
            found.setdefault(site, name)
    return found


def _in_other_layers(stack: TextStack, site: Site, layer: int) -> list[Site]:
    """The same place in each other block, nearest first."""
    below = site.module_path.removeprefix(stack.path_to(stack.block_path(layer))).removeprefix(".")
    others = sorted(set(range(stack.n_layers)) - {layer}, key=lambda other: (abs(other - layer), other))
    return [replace(site, module_path=joined(stack.path_to(stack.block_path(other)), below)) for other in others]


def _stack(model: Any) -> TextStack | None:
    """The stack of blocks; None also where a model holds several, of which none is meant more than another."""
    try:
        return text_stack(model)
    except InputError:
        return None
