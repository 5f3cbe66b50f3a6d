"""What both capture backends agree on: which value of a module is its activations, and when the forward pass is over.

A site is a module path and a side. Each is read once per pass: of a module that runs several times the first run, of a
tuple the first item. After the last site nothing later in the model needs to run.
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sae_auto_interp.errors import InputError, UnknownNameError, nearest_names

Side = Literal["input", "output"]

Read = Callable[[str, Tensor], None]
"""Called with (module path, [batch, seq, d]). The tensor is the model's own, in its dtype: it must not be changed."""


class StopForward(Exception):
    """Leaves the forward pass once all is read; never seen outside this folder."""


class SiteReader:
    """Hands the activations of each site to `read`, and ends the forward pass after the last one. Keeps no tensor."""

    def __init__(self, paths: Iterable[str], tokens: Int[Tensor, "batch seq"], read: Read) -> None:
        self._waiting = set(paths)
        self._shape = tokens.shape
        self._read = read

    def take(self, path: str, value: Any) -> None:
        """A module's input or output as it arises. Raises `StopForward` after the last site, `InputError` for others
        than one vector per token."""
        if path not in self._waiting:
            return
        self._read(path, _vectors(_first_tensor(value, path), path, self._shape))
        self._waiting.discard(path)
        if not self._waiting:
            raise StopForward

    def check_all_read(self) -> None:
        """Raise `InputError` with the sites that the forward pass never reached."""
        if self._waiting:
            raise InputError(f"the model's forward pass never runs {', '.join(sorted(self._waiting))}")


def site_modules(model: nn.Module, paths: Iterable[str]) -> dict[str, nn.Module]:
    """The module at each path; raises `UnknownNameError` with the nearest match."""
    found: dict[str, nn.Module] = {}
    for path in paths:
        try:
            found[path] = model.get_submodule(path)
        except AttributeError as error:
            known = [name for name, _ in model.named_modules() if name]
            raise UnknownNameError("module path", path, nearest_names(path, known) or known[:5]) from error
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


def _first_tensor(value: Any, path: str) -> Tensor:
    """Attention layers and older blocks give tuples with the hidden states first."""
    first = value[0] if isinstance(value, tuple | list) and value else value
    if not isinstance(first, Tensor) or not first.is_floating_point():
        given = f"numbers of type {first.dtype}" if isinstance(first, Tensor) else type(first).__name__
        raise InputError(f"{path} does not give activations but {given}; attach to another module")
    return first


def _vectors(value: Tensor, path: str, shape: torch.Size) -> Float[Tensor, "batch seq d"]:
    """Also from modules that fold batch and sequence into one dimension."""
    if value.ndim == 2 and value.shape[0] == shape.numel():
        return value.reshape(*shape, -1)
    if value.ndim != 3 or value.shape[:2] != shape:
        shapes = f"{tuple(value.shape)} for tokens of shape {tuple(shape)}"
        raise InputError(f"{path} does not give one vector per token ({shapes}); attach to another module")
    return value
