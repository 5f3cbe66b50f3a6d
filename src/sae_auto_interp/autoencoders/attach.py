"""Attach coders to the modules of a subject model.

After `attach`, a user's own `model.trace` can read `submodule.ae.output`, the dense code (and after it
`submodule.output`: NNsight hands out values in the order in which they arise).

What coders are called: by the module that they are attached to, and a further one there by its own name besides.

The first coder of a module has the module's path. A further one has `path@name`: of where it was read from the last
parts that tell it apart from the others there, with a hyphen between (`width_65k-average_l0_72`); coders that are the
same but for how they are read are numbered. The name depends on what is attached in which order,
and on nothing else; it is safe as a name of a directory.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import PurePosixPath
from typing import Any, TypeVar

import torch
from nnsight import NNsight
from nnsight.intervention.interleaver import OutOfOrderError
from torch import Tensor, nn

from sae_auto_interp.autoencoders.coder import Coder
from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.models.placement import torch_model
from sae_auto_interp.models.sites.module_paths import submodule
from sae_auto_interp.models.sites.site import Placement, Site, transformed
from sae_auto_interp.models.sites.site_names import resolve_site
from sae_auto_interp.models.sites.text_stack import text_stacks
from sae_auto_interp.models.traced_value import traced_value
from sae_auto_interp.module_names import BESIDE

LONGEST_NAME = 60


_T = TypeVar("_T")


def name_beside(home: str, settings: CoderSettings, taken: Mapping[str, CoderSettings]) -> str:
    """The name of a coder at the module `home`, beside those that are `taken`."""
    there = at_module(home, taken)
    if not there:
        return home
    own = _parts(settings)
    others = [_parts(other) for other in there.values()]
    n = next((n for n in range(1, len(own) + 1) if all(own[-n:] != other[-n:] for other in others)), 1)
    telling = [own[-i] for i in range(n, 0, -1) if any(other[-i : len(other) - i + 1] != [own[-i]] for other in others)]
    base = f"{home}{BESIDE}{'-'.join(telling or own[-1:])[-LONGEST_NAME:].lstrip('-.')}"
    names = (base if number == 1 else f"{base}-{number}" for number in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def at_module(home: str, taken: Mapping[str, _T]) -> dict[str, _T]:
    """Those of some coders by name that are attached to the module `home`."""
    return {name: each for name, each in taken.items() if name.partition(BESIDE)[0] == home}


def _parts(settings: Any) -> list[str]:
    """The parts of where a coder was read from, without a commit and with nothing that a path could mean."""
    source = settings.hub_source.rpartition("@")[0] or settings.source or settings.family
    parts = PurePosixPath(source.replace("\\", "/").replace(":", "/")).parts
    safe = [re.sub(r"[^A-Za-z0-9._]+", "_", part).strip("._") for part in parts]
    return [part for part in safe if part] or [settings.family]


def attach(
    model: Any, coders: Mapping[Any, Coder] | Sequence[tuple[Any, Coder]], *, beside: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Put each coder at its module as `.ae` and return {full module path: submodule}. An earlier one is replaced.

    `model` is a torch model, or one that NNsight wraps. `coders` is by `Placement`, by `Site`, or by any
    name that `resolve_site` knows (of a bare module path the coder's settings say on which side). `beside` is what
    earlier calls returned, which stays attached: a further coder at a module of theirs, or of pairs that name a module
    twice, is returned under a name of its own, `module path@name` (`coder_names`), as a handle whose `.ae` it is.
    Raises `WeightsError` when a coder reads another number of dimensions than its sites have, and `InputError` when two
    names of a mapping are one module or the model's weights are not loaded yet. Nothing is attached then.
    """
    wrapped = model if isinstance(getattr(model, "_module", None), nn.Module) else NNsight(torch_model(model))
    pairs = list(coders.items()) if isinstance(coders, Mapping) else coders
    placed = [(_placement(wrapped, where, coder), coder) for where, coder in pairs]
    if isinstance(coders, Mapping):
        _check_alone(placed, list(coders))
    for placement, coder in placed:
        _check_dimensions(torch_model(wrapped), placement, coder)
    devices = [_device(torch_model(wrapped), placement.home) for placement, _ in placed]
    taken = {name: attached_coder(handle) for name, handle in (beside or {}).items()}
    attached: dict[str, Any] = {}
    for (placement, coder), device in zip(placed, devices, strict=True):
        name = name_beside(placement.home, coder.settings, {each: other.settings for each, other in taken.items()})
        taken[name] = coder
        coder.placement, coder.attached_as = placement, name
        attached[name] = _put(wrapped, name, coder.to(device), len(at_module(placement.home, taken)))
    return attached


def _put(model: Any, name: str, coder: Coder, number: int) -> Any:
    """The handle of a coder, the `number`th at its module."""
    assert coder.placement is not None
    handle = submodule(model, coder.placement.home)
    slot = "ae" if number == 1 else f"ae_{number}"
    setattr(handle, slot, coder)
    _edit(model, handle, slot)
    return handle if number == 1 else HandleBeside(handle, slot, name)


class HandleBeside:
    """The handle of a module for a further coder there: `.ae` is this coder, all else is the module's."""

    def __init__(self, handle: Any, slot: str, name: str) -> None:
        object.__setattr__(self, "_handle", handle)
        object.__setattr__(self, "_slot", slot)
        object.__setattr__(self, "path", name)

    @property
    def ae(self) -> Any:
        return getattr(self._handle, self._slot)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._handle, name, value)


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


def _edit(model: Any, handle: Any, slot: str) -> None:
    """Run the coder in every trace, and at every step of a generation; stored once, however many coders come.

    Which coder, and what it reads, is looked up then: it may have been replaced by another.
    """
    known = f"_{slot}_edit"
    if any(edit is getattr(handle, known, None) for edit in model._edits):
        return
    with model.edit(inplace=True) as edit:
        _encode_at_every_pass(model, handle, slot, edit)
    setattr(handle, known, model._edits[-1])


def _encode_at_every_pass(model: Any, handle: Any, slot: str, edit: Any) -> None:
    """NNsight ends a loop without a bound by an error in the pass that does not come."""
    n_passes = 0
    try:
        for _ in edit.iter[:]:
            coder = getattr(handle, slot)
            coder(_read(model, coder._module), hook=True)
            n_passes += 1
    except OutOfOrderError:
        if n_passes == 0:
            raise


def _read(model: Any, coder: Coder) -> Tensor:
    """What a coder reads, in a trace."""
    assert coder.placement is not None
    sites = coder.placement.sites
    read = [transformed(site, traced_value(submodule(model, site.module_path), site)) for site in sites]
    if len(read) == 1:
        return read[0]
    return torch.cat([part.to(coder.device) for part in read], dim=-1)


def _check_alone(placed: list[tuple[Placement, Coder]], named: list[Any]) -> None:
    for placement, _ in placed:
        same = [str(name) for name, (other, _) in zip(named, placed, strict=True) if other.home == placement.home]
        if len(same) > 1:
            raise InputError(
                f"{' and '.join(same)} are one module, {placement.home}; attach one after the other, with beside="
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
