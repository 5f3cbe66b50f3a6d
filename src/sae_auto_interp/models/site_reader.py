"""What both capture backends agree on: which value of a module is its activations, and when the forward pass is over.

Each site is read once per pass: of a module that runs several times the first run. After the last site nothing later
in the model needs to run.
"""

import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sae_auto_interp.errors import InputError, UnknownNameError, nearest_names
from sae_auto_interp.models.sites.site import Site, transformed

Read = Callable[[str, Tensor], None]
"""Called with (name of the site, [batch, seq, d]). It may be the model's own tensor, in its dtype: do not change it."""


class StopForward(Exception):
    """Leaves the forward pass once all is read; never seen outside this folder."""


class SiteReader:
    """Hands the activations of each site to `read`, and ends the forward pass after the last one. Keeps no tensor."""

    def __init__(self, sites: Mapping[str, Site], tokens: Int[Tensor, "batch seq"], read: Read) -> None:
        self._waiting = dict(sites)
        self._shape = tokens.shape
        self._read = read

    def take(self, name: str, value: Any) -> None:
        """What the module of a site reads or gives, as it arises. Raises `StopForward` after the last site,
        `InputError` for other values than one vector per token."""
        site = self._waiting.get(name)
        if site is None:
            return
        self._read(name, transformed(site, self._checked(site, value)))
        del self._waiting[name]
        if not self._waiting:
            raise StopForward

    def _checked(self, site: Site, value: Any) -> Tensor:
        found = site_tensor(site, value)
        return found if site.transform == "token_ids" else _vectors(found, site.module_path, self._shape)

    def check_all_read(self) -> None:
        """Raise `InputError` with the sites that the forward pass never reached."""
        if self._waiting:
            paths = sorted(site.module_path for site in self._waiting.values())
            raise InputError(f"the model's forward pass never runs {', '.join(paths)}")


def site_modules(model: nn.Module, sites: Mapping[str, Site]) -> dict[str, nn.Module]:
    """The module of each site, under the site's name; raises `UnknownNameError` with the nearest match."""
    found: dict[str, nn.Module] = {}
    for name, site in sites.items():
        try:
            found[name] = model.get_submodule(site.module_path)
        except AttributeError as error:
            known = [path for path, _ in model.named_modules() if path]
            nearest = nearest_names(site.module_path, known) or known[:5]
            raise UnknownNameError("module path", site.module_path, nearest) from error
    return found


def first_argument(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What a module reads: its first argument, which transformers may also hand over by name."""
    return args[0] if args else kwargs.get("hidden_states", next(iter(kwargs.values()), None))


@contextmanager
def evaluation_mode(model: nn.Module) -> Generator[None]:
    """Every module in evaluation mode, and afterwards each as it was: dropout would make up activations."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def uncompiled() -> Generator[None]:
    """Modules that `torch.compile` compiled run as they were written: compiled code does not call the hooks that read,
    nor can it be left halfway."""
    if "torch._dynamo" not in sys.modules:  # then nothing is compiled, and importing it takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def site_tensor(site: Site, value: Any) -> Tensor:
    """The tensor that is meant among what a module reads or gives; raises `InputError` where it is none.

    Attention layers and older blocks give tuples with the hidden states first.
    """
    path, item = site.module_path, site.item if site.side == "output" else 0
    is_tuple = isinstance(value, tuple | list)
    found = value[item] if is_tuple and len(value) > item else None if is_tuple or item else value
    if site.transform == "token_ids":
        return _token_ids(found, path)
    if not isinstance(found, Tensor) or not found.is_floating_point():
        given = f"numbers of type {found.dtype}" if isinstance(found, Tensor) else type(found).__name__
        which = f"item {item} of " if item else ""
        raise InputError(f"{which}{path} does not give activations but {given}; attach to another module")
    return found


def _token_ids(value: Any, path: str) -> Int[Tensor, "batch seq"]:
    if not isinstance(value, Tensor) or value.is_floating_point() or value.ndim != 2:
        raise InputError(f"{path} does not read token ids; they are what the model's token embedding reads")
    return value


def _vectors(value: Tensor, path: str, shape: torch.Size) -> Float[Tensor, "batch seq d"]:
    """Also from modules that fold batch and sequence into one dimension."""
    if value.ndim == 2 and value.shape[0] == shape.numel():
        return value.reshape(*shape, -1)
    if value.ndim != 3 or value.shape[:2] != shape:
        shapes = f"{tuple(value.shape)} for tokens of shape {tuple(shape)}"
        raise InputError(f"{path} does not give one vector per token ({shapes}); attach to another module")
    return value
