"""TransformerLens' hook names -> sites of a Hugging Face model, by the tables in `architectures`.

`ln1.hook_normalized` and `ln2.hook_normalized` are the norm without its gain, as TransformerLens has them for RMS norms and
for layer norms with folded weights; transformers has no such tensor, so it is computed from what the norm reads.
`hook_mlp_in` is read as SAELens uses it, as what the MLP reads, after the norm (older TransformerLens: before it).
"""

import re
from typing import Any, cast

from torch import nn

from sae_auto_interp.errors import InputError, UnknownNameError, nearest_names
from sae_auto_interp.models.architectures import ARCHITECTURES, Absent
from sae_auto_interp.models.module_paths import module_at
from sae_auto_interp.models.placement import torch_model
from sae_auto_interp.models.site import Side, Site, Transform
from sae_auto_interp.models.text_stack import TextStack, text_stack

EMBEDDING_HOOK = "hook_embed"
_IN_BLOCK = re.compile(r"blocks\.(?P<layer>\d+)\.(?P<hook>.+)")
_ALIASES = {"hook_mlp_in": "mlp.hook_in"}
_ADDRESS = re.compile(r"(?P<path>[\w.]*):(?P<side>in|out)(?: \((?P<transform>\w+)\))?")
_SIDES: dict[str, Side] = {"in": "input", "out": "output"}


def is_hook_name(name: str) -> bool:
    return name == EMBEDDING_HOOK or _IN_BLOCK.fullmatch(name) is not None


def hook_site(model: Any, hook: str, layer: int | None = None) -> Site:
    """The site of a full hook name (`blocks.3.mlp.hook_in`), or of one below block `layer` (`mlp.hook_in`).

    Raises `UnknownNameError` with the nearest matches, and `InputError` with the reason where the architecture has no
    such place.
    """
    name = hook if layer is None else f"blocks.{layer}.{hook}"
    stack = _stack(model, name)
    if name == EMBEDDING_HOOK:
        return Site(stack.path_to(stack.architecture.embedding))
    match = _IN_BLOCK.fullmatch(name)
    if match is None or int(match["layer"]) >= stack.n_layers:
        raise _unknown(name, stack)
    place = stack.architecture.hooks.get(_ALIASES.get(match["hook"], match["hook"]))
    if place is None:
        raise _unknown(name, stack)
    if isinstance(place, Absent):
        raise InputError(f"this model has no {name!r}: {place.reason}")
    return _site(model, stack, int(match["layer"]), place)


def sites_of_layer(model: Any, layer: int) -> dict[str, Site]:
    """{hook name: site} of all named places of block `layer`, in the order of the forward pass. Two names may be one
    site. Raises `InputError` for a model of an architecture without a table, or without such a layer."""
    stack = _stack(model, f"blocks.{layer}.hook_resid_post")
    if not 0 <= layer < stack.n_layers:
        raise InputError(f"the model has no layer {layer}; it has 0 to {stack.n_layers - 1}")
    places = stack.architecture.hooks.items()
    return {
        f"blocks.{layer}.{hook}": _site(model, stack, layer, place)
        for hook, place in places
        if not isinstance(place, Absent)
    }


def hook_names(model: Any) -> list[str]:
    """Every hook name that has a site in the model; none for an architecture without a table."""
    stack = text_stack(model)
    return [] if stack is None else _names(stack)


def with_epsilon(model: Any, site: Site) -> Site:
    """A site with a norm's transform takes the epsilon of the norm that it is at."""
    if site.transform not in ("rms_norm", "layer_norm"):
        return site
    norm = module_at(model, site.module_path)
    for name in ("variance_epsilon", "eps", "epsilon"):
        epsilon = getattr(norm, name, None)
        if isinstance(epsilon, float):
            return Site(site.module_path, site.side, site.item, site.transform, epsilon)
    raise InputError(f"{site}: {site.module_path} is a {type(norm).__name__}, which is no norm with an epsilon")


def _site(model: Any, stack: TextStack, layer: int, place: str) -> Site:
    match = _ADDRESS.fullmatch(place)
    assert match, place
    path = stack.path_to(".".join(filter(None, (stack.block_path(layer), match["path"]))))
    transform = cast(Transform, match["transform"] or "none")
    return with_epsilon(model, Site(path, _SIDES[match["side"]], transform=transform))


def _stack(model: Any, name: str) -> TextStack:
    stack = text_stack(model)
    if stack is None:
        known = ", ".join(ARCHITECTURES)
        raise InputError(
            f"the hook name {name!r} has a meaning for models of type {known}; this one is {_type_of(torch_model(model))}. "
            "Give the module's own path, such as 'layers.3.mlp:out'"
        )
    return stack


def _type_of(module: nn.Module) -> str:
    return str(getattr(getattr(module, "config", None), "model_type", None) or type(module).__name__)


def _names(stack: TextStack) -> list[str]:
    present = [hook for hook, place in stack.architecture.hooks.items() if not isinstance(place, Absent)]
    return [EMBEDDING_HOOK, *(f"blocks.{layer}.{hook}" for layer in range(stack.n_layers) for hook in present)]


def _unknown(name: str, stack: TextStack) -> UnknownNameError:
    names = _names(stack)
    return UnknownNameError("hook name", name, nearest_names(name, names) or names[:15])
