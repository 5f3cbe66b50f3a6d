"""Load a subject model from a directory or a hub id, wrapped by NNsight.

The dtype decides what the forward pass computes in; activations are handed on in it, and autoencoders encode in float32
whatever it is.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sae_auto_interp.errors import InputError
from sae_auto_interp.model_loading.failures import loading_failures
from sae_auto_interp.model_loading.positions import PositionLimit, position_limit
from sae_auto_interp.model_loading.pretrained import (
    load_config,
    load_language_model,
    load_tokenizer,
    model_of_settings,
)
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
    if dtype not in DTYPES:
        raise InputError(f"subject model: there is no dtype {dtype!r}; give one of {', '.join(DTYPES)}")
    (place, revision), device_map = _place_and_revision(ref), _device_map(device)
    what = f"subject model {ref!r}"
    model, tokenizer = load_language_model(what, place, revision, device_map=device_map, dtype=dtype)
    _check_dtype(model, ref, dtype)
    model.config._commit_hash = revision  # where transformers keeps it, if it does
    with loading_failures(what, place):
        from nnsight import TransformersModel

        return TransformersModel(model, task="text-generation", tokenizer=tokenizer)


def subject_tokenizer(ref: str) -> Any:
    """The tokenizer of a subject model, which is not loaded itself. Raises `InputError` where there is none."""
    place, revision = _place_and_revision(ref)
    return load_tokenizer(f"subject model {ref!r}", place, revision)


def subject_positions(ref: str) -> PositionLimit | None:
    """How many positions a subject model has, by its settings alone: nothing else of it is read.

    Raises `InputError` where there is no such model, or its settings cannot be read.
    """
    place, revision = _place_and_revision(ref)
    what = f"subject model {ref!r}"
    return position_limit(model_of_settings(what, place, load_config(what, place, revision)))


def _check_dtype(model: nn.Module, ref: str, dtype: str) -> None:
    """transformers falls back to float32 when loading in another dtype fails, with a warning in its log at most."""
    if dtype != "auto" and all(parameter.dtype != getattr(torch, dtype) for parameter in model.parameters()):
        found = str(next(model.parameters()).dtype).removeprefix("torch.")
        raise InputError(
            f"subject model {ref!r} could not be loaded in {dtype}, only in {found}; set the dtype to that"
        )


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


def _place_and_revision(ref: str) -> tuple[str, str | None]:
    """Where the model is, and the commit of what is on the hub."""
    address = parse_hub_ref(model_address(ref))
    if address is None:
        return _directory(ref), None
    if address.path:
        raise InputError(f"subject model: {ref} names a directory within a repository; give hf:owner/repo@revision")
    return address.repo, pinned(address).revision


def _directory(ref: str) -> str:
    """The directory meant; a path that is not there would be looked up on the hub and mislead."""
    path = Path(ref).expanduser()
    if not path.is_dir():
        raise InputError(f"subject model: there is no directory {ref}")
    if not (path / "config.json").is_file():
        raise InputError(f"subject model: {ref} holds no config.json; give a directory in Hugging Face format")
    return str(path)
