"""Load a subject model from a directory or a hub id, wrapped by NNsight.

The dtype decides what the forward pass computes in; activations are handed on in it, and autoencoders encode in float32
whatever it is.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import nn

from sae_auto_interp.errors import InputError
from sae_auto_interp.model_loading import LOADING
from sae_auto_interp.models.hub import model_address, parse_hub_ref, pinned

DTYPES = ("auto", "float32", "bfloat16", "float16")
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""Ways in which accelerate spreads a model over the GPUs that there are, and over CPU and disk when they are full."""

Device = str | Mapping[str, str | int]


def load_subject_model(ref: str, device: Device = "auto", dtype: str = "auto") -> Any:
    """A causal language model and its tokenizer as `nnsight.TransformersModel`, weights loaded.

    `ref` is a local directory in Hugging Face format, a hub id, or `hf:owner/repo@revision`; what is on the hub is
    loaded at one commit, which the model's configuration keeps. `device` is "auto" (a GPU
    if there is one), another of `DEVICE_MAPS`, a torch device such as "cuda:1", or a mapping of module paths to
    devices, "cpu" or "disk". `dtype` is one of `DTYPES`; "auto" is what the checkpoint says. Raises `InputError` when
    there is no such model, device or dtype, or the model's files cannot be read.
    """
    with LOADING:
        from nnsight import TransformersModel

    if dtype not in DTYPES:
        raise InputError(f"subject model: there is no dtype {dtype!r}; give one of {', '.join(DTYPES)}")
    (place, revision), device_map = _place_and_revision(ref), _device_map(device)
    try:
        with LOADING, _no_loading_bar():
            model = TransformersModel(
                place, task="text-generation", dispatch=True, device_map=device_map, dtype=dtype, **revision
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"subject model {ref!r} cannot be loaded: {_reason(error)}") from error
    _check_dtype(model._module, ref, dtype)
    model._module.config._commit_hash = revision.get("revision")  # where transformers keeps it, if it does
    model._module.eval()
    return model


def _check_dtype(model: nn.Module, ref: str, dtype: str) -> None:
    """transformers falls back to float32 when loading in another dtype fails, with a warning in its log at most."""
    if dtype != "auto" and all(parameter.dtype != getattr(torch, dtype) for parameter in model.parameters()):
        found = str(next(model.parameters()).dtype).removeprefix("torch.")
        raise InputError(
            f"subject model {ref!r} could not be loaded in {dtype}, only in {found}; set the dtype to that"
        )


def _reason(error: Exception) -> str:
    """The line that says what went wrong: of a message that holds tracebacks the last one, else the first."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return shorten(lines[-1 if len(lines) > 1 and "Traceback" in str(error) else 0], 300, placeholder=" ...")


def _device_map(device: Device) -> str | dict[str, str | int]:
    """What transformers takes as `device_map`, checked before anything is loaded; what goes to disk comes last.

    It takes the first place of a mapping for that of the inputs.
    """
    if isinstance(device, str):
        if device not in DEVICE_MAPS:
            _check_device(device)
        return device
    placed = sorted(device.items(), key=lambda item: item[1] == "disk")
    if not placed or placed[0][1] == "disk":
        raise InputError(
            f"subject model: of the device mapping {dict(device)} no module is on a device; place one there"
        )
    for _, place in placed:
        if place != "disk":
            _check_device(place)
    return dict(placed)


def _check_device(name: str | int) -> None:
    """Raise `InputError` for what is no device of this machine. A number is one of its GPUs."""
    choices = f"give one of {', '.join(DEVICE_MAPS)}, cpu, cuda, cuda:1, or a mapping of module paths to devices"
    accelerator = torch.accelerator.current_accelerator()
    n_accelerators = torch.accelerator.device_count()
    gpu = "cuda" if accelerator is None else accelerator.type
    try:
        found = torch.device(f"{gpu}:{name}" if isinstance(name, int) else name)
    except RuntimeError as error:
        raise InputError(f"subject model: there is no device {name!r}; {choices}") from error
    if found.type != "cpu" and (found.type != gpu or (found.index or 0) >= n_accelerators):
        here = f"this machine has {n_accelerators} of {gpu}" if n_accelerators else "this machine has only a CPU"
        raise InputError(f"subject model: there is no device {name!r} here, {here}; {choices}")


@contextmanager
def _no_loading_bar() -> Generator[None, None, None]:
    """Without transformers' own progress bar: the run's progress is ours to show."""
    from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def _place_and_revision(ref: str) -> tuple[str, dict[str, str]]:
    """Where the model is, and the revision as a keyword, if one is named."""
    address = parse_hub_ref(model_address(ref))
    if address is None:
        return _directory(ref), {}
    if address.path:
        raise InputError(f"subject model: {ref} names a directory within a repository; give hf:owner/repo@revision")
    return address.repo, {"revision": pinned(address).revision}


def _directory(ref: str) -> str:
    """The directory meant; a path that is not there would be looked up on the hub and mislead."""
    path = Path(ref).expanduser()
    if not path.is_dir():
        raise InputError(f"subject model: there is no directory {ref}")
    if not (path / "config.json").is_file():
        raise InputError(f"subject model: {ref} holds no config.json; give a directory in Hugging Face format")
    return str(path)
