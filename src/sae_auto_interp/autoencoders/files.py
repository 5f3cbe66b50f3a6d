"""Reading weight files: each mistake named once, for every format. Nothing that is read can run code."""

import hashlib
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sae_auto_interp.errors import InputError, WeightsError

_DAMAGED = (
    RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
    ArithmeticError, MemoryError, struct.error,
)  # fmt: skip
"""What torch.load was seen to raise on cut and altered files."""


SUMMED_AT_ONCE = 1024
"""Rows of a tensor that `sum_over_middle` holds at a time."""


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


def torch_file_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The tensors of a `.pt` file by name, without reading their values (older than PyTorch 1.6: by reading them); none
    if it is refused or damaged."""
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, *_DAMAGED):
        return {}
    items = state.items() if isinstance(state, dict) else ()
    return {str(name): tuple(value.shape) for name, value in items if isinstance(value, Tensor)}


def safetensors_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The tensors of a `.safetensors` file by name, from its header alone; none if it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        return {}


def read_safetensors(path: Path, *, leave_out: Container[str] = ()) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, which can hold nothing else."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys() if name not in leave_out}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: cannot be read as safetensors ({_first_line(error)}); is it truncated?") from error


def sum_over_middle(path: Path, name: str) -> Float[Tensor, "n d"]:
    """The tensor `name`, of shape [n, layers, d], summed over its layers; a piece of it is in memory at a time."""
    try:
        with safe_open(path, framework="pt") as file:
            stored = file.get_slice(name)
            n = stored.get_shape()[0]
            starts = range(0, n, SUMMED_AT_ONCE)
            return torch.cat([stored[first : first + SUMMED_AT_ONCE].float().sum(dim=1) for first in starts])
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: cannot be read as safetensors ({_first_line(error)}); is it truncated?") from error


def read_npz(path: Path) -> dict[str, Tensor]:
    """Every array of a `.npz` file; pickled objects in it are refused."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except ValueError as error:
        raise WeightsError(f"{path}: refused as an npz file: it holds pickled objects, or is damaged") from error
    except (zipfile.BadZipFile, zlib.error, *_DAMAGED) as error:
        raise WeightsError(f"{path}: cannot be read as npz ({_first_line(error)}); is it truncated?") from error


def npz_names(path: Path) -> set[str]:
    """The names of a `.npz` file's arrays, without reading them; none if it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError):
        return set()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, as a configuration is."""
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: is not valid JSON ({_first_line(error)})") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def read_yaml(path: Path) -> dict[str, Any]:
    """Settings by name, as a configuration in YAML is."""
    try:
        value: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: is not valid YAML ({_first_line(error)})") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: expected settings by name, found {type(value).__name__}")
    return value


def tensor_of(state: Mapping[str, Any], key: str, path: Path) -> Tensor:
    """The tensor `key` of a file, which must be of floating-point numbers, in float32: what is computed from it is not
    rounded to the file's precision."""
    value = state.get(key)
    if not isinstance(value, Tensor):
        raise WeightsError(f"{path}: no tensor {key!r}; the file holds {', '.join(sorted(state)[:10]) or 'nothing'}")
    if not value.is_floating_point():
        raise WeightsError(f"{path}: {key!r} is of type {value.dtype}; only floating-point weights are read")
    return value.float()


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
