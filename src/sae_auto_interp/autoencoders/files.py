"""Reading weight files: each mistake named once, for every format. Nothing that is read can run code."""

import hashlib
import json
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sae_auto_interp.errors import InputError, WeightsError

_DAMAGED = (
    RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
    ArithmeticError, MemoryError, struct.error,
)  # fmt: skip
"""What torch.load was seen to raise on cut and altered files."""


def required_file(path: Path, what: str) -> Path:
    """The path, if the file is there; otherwise an error that lists what is there instead."""
    if path.is_file():
        return path
    folder = path if path.is_dir() else path.parent
    if not folder.is_dir():
        raise InputError(f"{what}: there is no directory {folder}")
    beside = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
    raise InputError(f"{what}: there is no file {path}; the directory holds {beside}")


def read_torch_file(path: Path) -> dict[str, Any]:
    """A `.pt` file of plain tensors; a pickle that wants to run code is refused and runs nothing."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = "it holds something other than tensors, which could run code when opened, or is damaged"
        raise WeightsError(f"{path}: refused as a torch file: {reason}") from error
    except _DAMAGED as error:
        raise WeightsError(
            f"{path}: cannot be read as a torch file ({_first_line(error)}); is it truncated?"
        ) from error
    if not isinstance(state, dict):
        raise WeightsError(f"{path}: expected a dictionary of tensors, found {type(state).__name__}")
    return {str(key): value for key, value in state.items()}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a `.safetensors` file, which can hold nothing else."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: cannot be read as safetensors ({_first_line(error)}); is it truncated?") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, as a configuration is."""
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: is not valid JSON ({_first_line(error)})") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def tensor_of(state: Mapping[str, Any], key: str, path: Path) -> Tensor:
    """The tensor `key` of a file, which must be of floating-point numbers."""
    value = state.get(key)
    if not isinstance(value, Tensor):
        raise WeightsError(f"{path}: no tensor {key!r}; the file holds {', '.join(sorted(state)[:10]) or 'nothing'}")
    if not value.is_floating_point():
        raise WeightsError(f"{path}: {key!r} is of type {value.dtype}; only floating-point weights are read")
    return value


def matrix_of(state: Mapping[str, Any], key: str, path: Path) -> Tensor:
    """As `tensor_of`, and of two dimensions."""
    value = tensor_of(state, key, path)
    if value.ndim != 2:
        raise WeightsError(f"{path}: {key!r} has shape {tuple(value.shape)}, but must be a matrix")
    return value


def integer_of(config: Mapping[str, Any], key: str, path: Path) -> int:
    """The whole number `key` of a configuration."""
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise WeightsError(f"{path}: {key!r} is {value!r}, but must be a whole number")
    return value


def sha256_of(path: Path) -> str:
    """Hash of a file, or of a directory's files in the order of their names."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
