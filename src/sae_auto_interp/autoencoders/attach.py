"""Attach coders to the modules of a subject model.

After `attach`, a user's own `model.trace` can read `submodule.ae.output`, the dense code (and after it
`submodule.output`: NNsight hands out values in the order in which they arise).
"""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from nnsight import NNsight
from nnsight.intervention.interleaver import OutOfOrderError
from torch import Tensor, nn

from sae_auto_interp.autoencoders.coder import Coder
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.models.placement import torch_model
from sae_auto_interp.models.sites.module_paths import submodule
from sae_auto_interp.models.sites.site import Placement, Site, transformed
from sae_auto_interp.models.sites.site_names import resolve_site
from sae_auto_interp.models.sites.text_stack import text_stacks
from sae_auto_interp.models.traced_value import traced_value


def attach(model: Any, coders: Mapping[Any, Coder]) -> dict[str, Any]:
    """Put each coder at its module as `.ae` and return {full module path: submodule}. An earlier one is replaced.

    `model` is a torch model, or one that NNsight wraps. `coders` is by `Placement`, by `Site`, or by any
    name that `resolve_site` knows (of a bare module path the coder's settings say on which side). Raises
    `WeightsError` when a coder reads another number of dimensions than its sites have, and `InputError` when two
    coders are for one module or the model's weights are not loaded yet. Nothing is attached then.
    """
    wrapped = model if isinstance(getattr(model, "_module", None), nn.Module) else NNsight(torch_model(model))
    placed = [(_placement(wrapped, where, coder), coder) for where, coder in coders.items()]
    _check_alone(placed, list(coders))
    for placement, coder in placed:
        _check_dimensions(torch_model(wrapped), placement, coder)
    devices = [_device(torch_model(wrapped), placement.home) for placement, _ in placed]
    attached: dict[str, Any] = {}
    for (placement, coder), device in zip(placed, devices, strict=True):
        handle = submodule(wrapped, placement.home)
        coder.placement = placement
        handle.ae = coder.to(device)
        _edit(wrapped, handle)
        attached[placement.home] = handle
    return attached


def attached_coder(handle: Any) -> Coder:
    """The coder that `attach` put at a submodule."""
    coder = getattr(getattr(handle, "ae", None), "_module", None)
    if not isinstance(coder, Coder):
        raise InputError(
            f"no autoencoder is attached at {getattr(handle, 'path', handle)!r}; use a load_*_autoencoders function"
        )
    return coder


def placement_of(handle: Any) -> Placement:
    """Where the coder at a submodule reads."""
    placement = attached_coder(handle).placement
    if placement is None:
        raise InputError(f"the autoencoder at {getattr(handle, 'path', handle)!r} was not attached by `attach`")
    return placement


def _placement(model: Any, where: Any, coder: Any) -> Placement:
    if not isinstance(coder, Coder):
        raise InputError(f"at {where} a coder is to be attached, not {coder!r}")
    if isinstance(where, str):
        where = resolve_site(model, where, coder.settings.side)
    if isinstance(where, Site):
        return Placement((where,))
    if not isinstance(where, Placement):
        raise InputError(f"{where!r} is no place of the model; give a module path, a hook name, a Site or a Placement")
    return where


def _edit(model: Any, handle: Any) -> None:
    """Run the coder in every trace, and at every step of a generation; stored once, however many coders come.

    Which coder, and what it reads, is looked up then: it may have been replaced by another.
    """
    if any(edit is getattr(handle, "_ae_edit", None) for edit in model._edits):
        return
    with model.edit(inplace=True) as edit:
        _encode_at_every_pass(model, handle, edit)
    handle._ae_edit = model._edits[-1]


def _encode_at_every_pass(model: Any, handle: Any, edit: Any) -> None:
    """NNsight ends a loop without a bound by an error in the pass that does not come."""
    n_passes = 0
    try:
        for _ in edit.iter[:]:
            handle.ae(_read(model, placement_of(handle)), hook=True)
            n_passes += 1
    except OutOfOrderError:
        if n_passes == 0:
            raise


def _read(model: Any, placement: Placement) -> Tensor:
    """What the coder there reads, in a trace."""
    sites = placement.sites
    read = [transformed(site, traced_value(submodule(model, site.module_path), site)) for site in sites]
    if len(read) == 1:
        return read[0]
    device = attached_coder(submodule(model, placement.home)).device
    return torch.cat([part.to(device) for part in read], dim=-1)


def _check_alone(placed: list[tuple[Placement, Coder]], named: list[Any]) -> None:
    for placement, _ in placed:
        same = [str(name) for name, (other, _) in zip(named, placed, strict=True) if other.home == placement.home]
        if len(same) > 1:
            raise InputError(
                f"{' and '.join(same)} are one module, {placement.home}; a module has room for one autoencoder"
            )


def _check_dimensions(model: nn.Module, placement: Placement, coder: Coder) -> None:
    found = [_dimensions(model, site) for site in placement.sites]
    known = [n for n in found if n is not None]
    if len(known) < len(found) or coder.d_in == sum(known):
        return
    places = " and ".join(str(site) for site in placement.sites)
    raise WeightsError(
        f"{coder.settings.source or 'the autoencoder'} reads {coder.d_in} dimensions, but {places} of this model has "
        f"{sum(known)}: these weights belong to another model or another place"
    )


def _dimensions(model: nn.Module, site: Site) -> int | None:
    """Width of what a module reads or writes. A linear layer knows it; others with weights are as wide as the model.

    None where it cannot be told without running it: an activation function is as wide as what it is given.
    """
    if site.transform == "token_ids":
        return 1
    module = model.get_submodule(site.module_path)
    for name in ("in_features", "nx") if site.side == "input" else ("out_features", "nf", "embedding_dim"):
        width = getattr(module, name, None)
        if isinstance(width, int):
            return width
    stacks = text_stacks(model)
    owners = [stack.module for stack in stacks if stack.holds(site.module_path)] if stacks else [model]
    if not owners:
        return None  # a vision tower has a width of its own
    width = getattr(getattr(owners[0], "config", None), "hidden_size", None)
    return width if module.state_dict() and isinstance(width, int) else None


def _device(model: nn.Module, path: str) -> torch.device:
    """Where the module's weights are, or the model's where it has none; of offloaded ones, where they run."""
    owner = model.get_submodule(path)
    weight = next(chain(owner.parameters(), owner.buffers(), model.parameters()), None)  # quantised: buffers, or none
    device = torch.device("cpu") if weight is None else weight.device
    if device.type != "meta":
        return device
    for each in (*owner.modules(), *model.modules()):
        found = getattr(getattr(each, "_hf_hook", None), "execution_device", None)
        if found is not None:
            return torch.device(found)
    raise InputError("the model's weights are not loaded yet; load it with dispatch=True")
