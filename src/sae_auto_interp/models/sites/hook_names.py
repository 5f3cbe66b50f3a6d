"""TransformerLens' hook names -> sites of a Hugging Face model, by the tables in `architectures`.

`ln1.hook_normalized` and `ln2.hook_normalized` are the norm without its gain, as TransformerLens has them for RMS
norms, and for layer norms whose weights it folded; transformers has no such tensor, so it is computed from what the
norm reads. `hook_mlp_in` is, as in SAELens, what the MLP reads, after the norm (older TransformerLens: before it).
"""

import re
from typing import Any, cast

from sae_auto_interp.errors import InputError, UnknownNameError, nearest_names
from sae_auto_interp.models.sites.architectures import Absent
from sae_auto_interp.models.sites.module_paths import module_at
from sae_auto_interp.models.sites.site import Side, Site, Transform
from sae_auto_interp.models.sites.text_stack import TextStack, require_text_stack, text_stack

EMBEDDING_HOOK = "hook_embed"
_IN_BLOCK = re.compile(r"blocks\.(?P<layer>\d+)\.(?P<hook>.+)")
_ALIASES = {"hook_mlp_in": "mlp.hook_in"}
_ADDRESS = re.compile(r"(?P<path>[\w.]*):(?P<side>in|out)(?: \((?P<transform>\w+)\))?")
_SIDES: dict[str, Side] = {"in": "input", "out": "output"}


def is_hook_name(name: str) -> bool:
    """Whether it is written as TransformerLens' names of places in the residual stream and the blocks are."""
    return name == EMBEDDING_HOOK or _IN_BLOCK.fullmatch(name) is not None


def hook_site(model: Any, hook: str, layer: int | None = None) -> Site:
    """The site of a full hook name (`blocks.3.mlp.hook_in`), or of one below block `layer` (`mlp.hook_in`).

    Raises `UnknownNameError` with the nearest matches, and `InputError` with the reason where the architecture has no
    such place.
    """
    name = hook if layer is None else f"blocks.{layer}.{hook}"
    stack = require_text_stack(model, f"the hook name {name!r}")
    if name == EMBEDDING_HOOK:
        return _embedding_site(model, stack)
    match = _IN_BLOCK.fullmatch(name)
    bare = match["hook"] if match else ""
    place = stack.architecture.hooks.get(_ALIASES.get(bare, bare))
    if match is None or place is None or int(match["layer"]) >= stack.n_layers:
        raise _unknown(name, stack)
    if isinstance(place, Absent):
        raise InputError(f"this model has no {name!r}: {place.reason}")
    return _site(model, stack, int(match["layer"]), place)


def sites_of_layer(model: Any, layer: int) -> dict[str, Site]:
    """{hook name: site} of all named places of block `layer`, in the order of the forward pass. Two names may be one
    site. Raises `InputError` for a model of an architecture without a table, or without such a layer."""
    stack = require_text_stack(model, "a hook name")
    if not 0 <= layer < stack.n_layers:
        raise InputError(f"the model has no layer {layer}; it has 0 to {stack.n_layers - 1}")
    places = stack.architecture.hooks.items()
    return {
        f"blocks.{layer}.{hook}": _site(model, stack, layer, place)
        for hook, place in places
        if not isinstance(place, Absent)
    }


def sites_in_order(model: Any) -> list[Site]:
    """Every named site of the blocks in the order of the forward pass, each once; none for an architecture without a
    table."""
    stack = text_stack(model)
    layers = range(0 if stack is None else stack.n_layers)
    return list(dict.fromkeys(site for layer in layers for site in sites_of_layer(model, layer).values()))


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


def _embedding_site(model: Any, stack: TextStack) -> Site:
    path = stack.path_to(stack.architecture.embedding)
    if stack.architecture.embedding_is_scaled and not hasattr(module_at(model, path), "embed_scale"):
        raise InputError(
            f"{path} of this model gives embeddings that are not scaled yet, as in transformers 4; "
            "'blocks.0.hook_resid_pre' are the scaled ones"
        )
    return Site(path)


def _site(model: Any, stack: TextStack, layer: int, place: str) -> Site:
    match = _ADDRESS.fullmatch(place)
    assert match, place
    path = stack.path_to(".".join(filter(None, (stack.block_path(layer), match["path"]))))
    transform = cast(Transform, match["transform"] or "none")
    return with_epsilon(model, Site(path, _SIDES[match["side"]], transform=transform))


def _names(stack: TextStack) -> list[str]:
    present = [hook for hook, place in stack.architecture.hooks.items() if not isinstance(place, Absent)]
    return [EMBEDDING_HOOK, *(f"blocks.{layer}.{hook}" for layer in range(stack.n_layers) for hook in present)]


def _unknown(name: str, stack: TextStack) -> UnknownNameError:
    match = _IN_BLOCK.fullmatch(name)
    if match and int(match["layer"]) >= stack.n_layers:
        layers = f"hook name (the model has layers 0 to {stack.n_layers - 1})"
        return UnknownNameError(layers, name, [f"blocks.{stack.n_layers - 1}.{match['hook']}"])
    names = _names(stack)
    return UnknownNameError("hook name", name, nearest_names(name, names) or names[:15])
