"""Reading weight files: each mistake named once, for every format. Nothing that is read can run code.

Which of the coders below a directory are meant.
"""

import hashlib
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sae_auto_interp import files
from sae_auto_interp.errors import InputError, UnknownNameError, WeightsError

_DAMAGED = (
    RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
    ArithmeticError, MemoryError, struct.error,
)  # fmt: skip
"""What torch.load was seen to raise on cut and altered files."""


_POINTER = b"version https://git-lfs"


_LFS = "is a Git LFS pointer, not the file itself; fetch it with: git lfs pull"


_WRAPPERS = ("model_state_dict", "state_dict", "model", "sae", "autoencoder", "ae")
"""Under which training scripts save the tensors of what they train."""


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
    """A `.pt` file of plain tensors, out of its wrappers (`unwrapped`); a pickle that wants to run code is refused and
    runs nothing."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if is_lfs_pointer(path):
            raise WeightsError(f"{path}: {_LFS}") from error
        reason = "it holds something other than tensors, which could run code when opened, or is damaged"
        raise WeightsError(f"{path}: refused as a torch file: {reason}") from error
    except _DAMAGED as error:
        raise _unreadable(path, "a torch file", error) from error
    if not isinstance(state, dict):
        raise WeightsError(f"{path}: expected a dictionary of tensors, found {type(state).__name__}")
    return unwrapped(state)


def torch_file_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The tensors of a `.pt` file by name, without reading their values (older than PyTorch 1.6: by reading them); none
    if it is refused or damaged."""
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, *_DAMAGED):
        return {}
    found = unwrapped(state) if isinstance(state, dict) else {}
    return {name: tuple(value.shape) for name, value in found.items() if isinstance(value, Tensor)}


def safetensors_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The tensors of a `.safetensors` file by name, from its header alone; none if it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return {own: tuple(file.get_slice(name).get_shape()) for own, name in _own_names(file).items()}
    except (SafetensorError, OSError):
        return {}


def weight_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The tensors of a file of weights by name; none if it is damaged, or of another type."""
    if path.suffix == ".safetensors":
        return safetensors_shapes(path)
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt"):
        return torch_file_shapes(path)
    try:
        return {name: tuple(value.shape) for name, value in read_npz(path).items()} if path.suffix == ".npz" else {}
    except WeightsError:
        return {}


def read_safetensors(path: Path, *, leave_out: Container[str] = ()) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, which can hold nothing else; what all names begin with is taken off."""
    try:
        with safe_open(path, framework="pt") as file:
            return {own: file.get_tensor(name) for own, name in _own_names(file).items() if own not in leave_out}
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, "safetensors", error) from error


def sum_over_middle(path: Path, name: str) -> Float[Tensor, "n d"]:
    """The tensor `name`, of shape [n, layers, d], summed over its layers; a piece of it is in memory at a time."""
    try:
        with safe_open(path, framework="pt") as file:
            stored = file.get_slice(_own_names(file)[name])
            n = stored.get_shape()[0]
            starts = range(0, n, SUMMED_AT_ONCE)
            return torch.cat([stored[first : first + SUMMED_AT_ONCE].float().sum(dim=1) for first in starts])
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, "safetensors", error) from error


def read_npz(path: Path) -> dict[str, Tensor]:
    """Every array of a `.npz` file; pickled objects in it are refused."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return unwrapped({name: torch.from_numpy(arrays[name]) for name in arrays.files})
    except ValueError as error:
        if is_lfs_pointer(path):
            raise WeightsError(f"{path}: {_LFS}") from error
        raise WeightsError(f"{path}: refused as an npz file: it holds pickled objects, or is damaged") from error
    except (zipfile.BadZipFile, zlib.error, *_DAMAGED) as error:
        raise _unreadable(path, "npz", error) from error


def npz_names(path: Path) -> set[str]:
    """The names of a `.npz` file's arrays, without reading them; none if it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError):
        return set()
    shared = shared_prefix(names)
    return {name.removeprefix(shared) for name in names}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, as a configuration is."""
    return _settings_in(path, lambda: files.parse_json(path.read_bytes(), str(path)))


def read_yaml(path: Path) -> dict[str, Any]:
    """Settings by name, as a configuration in YAML is."""
    return _settings_in(path, lambda: files.read_yaml(path, "configuration"))


def _settings_in(path: Path, read: Callable[[], Any]) -> dict[str, Any]:
    try:
        files.refuse_lfs_pointer(path)
        value = read()
    except (InputError, OSError) as error:
        raise WeightsError(str(error)) from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: expected settings by name, found {type(value).__name__}")
    return {str(name): content for name, content in cast("dict[Any, Any]", value).items()}


def tensor_of(state: Mapping[str, Any], key: str, path: Path) -> Tensor:
    """The tensor `key` of a file, which must be of floating-point numbers, in float32: what is computed from it is not
    rounded to the file's precision."""
    value = state.get(key)
    if not isinstance(value, Tensor):
        raise WeightsError(f"{path}: no tensor {key!r}; the file holds {', '.join(sorted(state)[:10]) or 'nothing'}")
    if not value.is_floating_point():
        raise WeightsError(f"{path}: {key!r} is of type {value.dtype}; only floating-point weights are read")
    return value.detach().float()


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


def flag_of(config: Mapping[str, Any], key: str, path: Path, default: bool = False) -> bool:
    """The yes or no `key` of a configuration; `default` where it says nothing. A word such as "false" is neither."""
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise WeightsError(f"{path}: {key!r} is {value!r}, but must be true or false")
    return value


def require_size(config: Mapping[str, Any], key: str, n: int, path: Path) -> None:
    """Raise `WeightsError` where a configuration says another size than its weights have."""
    stated = config.get(key)
    if stated is not None and (isinstance(stated, bool) or stated != n):
        raise WeightsError(
            f"{path}: {key} is {stated!r}, but the weights beside it have {n}; the files do not belong together, or a "
            "matrix is transposed"
        )


def refuse_unread(state: Mapping[str, Any], read: Collection[str], path: Path) -> None:
    """Raise `WeightsError` for tensors beside those that are `read`: what was trained computes with them too, and codes
    without them would be other ones."""
    others = sorted(name for name, value in state.items() if isinstance(value, Tensor) and name not in read)
    if others:
        raise WeightsError(
            f"{path}: holds {', '.join(others[:8])}, which what its configuration names does not have "
            f"({', '.join(sorted(read))}); are they files of another kind of autoencoder?"
        )


def sha256_of(path: Path) -> str:
    """Hash of a file, or of a directory's files in the order of their names."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def unwrapped(state: Mapping[Any, Any]) -> dict[str, Any]:
    """What a training script saved, as the autoencoder's own tensors: out of the one dictionary that holds tensors
    (`model_state_dict`, `state_dict`), and without what all of their names begin with (`module.`, `_orig_mod.`)."""
    found = {str(name): value for name, value in state.items()}
    if not any(isinstance(value, Tensor) for value in found.values()):
        inner = {name: value for name, value in found.items() if _holds_tensors(value)}
        chosen = next((name for name in _WRAPPERS if name in inner), next(iter(inner), None))
        if chosen is not None and (chosen in _WRAPPERS or len(inner) == 1):
            return unwrapped(inner[chosen])
    shared = shared_prefix([name for name, value in found.items() if isinstance(value, Tensor)])
    return {name.removeprefix(shared) if isinstance(v, Tensor) else name: v for name, v in found.items()}


def shared_prefix(names: Sequence[str]) -> str:
    """What the names of all tensors begin with, up to a dot: it says what the autoencoder was a part of, and nothing
    about it. Empty where there is one name only, or where what is left would not tell a matrix from a bias."""
    shared = ""
    while len(names) > 1:
        heads = {name.partition(".")[0] for name in names}
        left = [name.partition(".")[2] for name in names]
        if len(heads) > 1 or not all(left) or set(left) <= {"weight", "bias"}:
            break
        shared, names = f"{shared}{heads.pop()}.", left
    return shared


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is what Git LFS leaves in place of one that was not fetched."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


def _own_names(file: Any) -> dict[str, str]:
    """{name of a tensor without what all begin with: its name in the file}"""
    names = list(file.keys())
    shared = shared_prefix(names)
    return {name.removeprefix(shared): name for name in names}


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(each, Tensor) for each in cast("dict[Any, Any]", value).values())


def _unreadable(path: Path, kind: str, error: Exception) -> WeightsError:
    if is_lfs_pointer(path):
        return WeightsError(f"{path}: {_LFS}")
    return WeightsError(f"{path}: cannot be read as {kind} ({_first_line(error)}); is it truncated?")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


DEPTH = 3
"""Levels of directories that are looked into: `layer_9/width_16k/average_l0_68/params.npz` has the most."""


Chosen = str | int | Sequence[str | int] | None
"""How users choose among coders: by names or layer numbers, or by one; None takes all."""


def names_of(chosen: Chosen) -> list[str] | None:
    """A choice as the names that `coders_in` takes."""
    if chosen is None:
        return None
    return [str(name) for name in ([chosen] if isinstance(chosen, str | int) else chosen)]


def files_below(root: Path, *patterns: str) -> list[Path]:
    """Files that fit one of the patterns, in `root` or up to DEPTH directories below it, in order of their paths.

    When `root` is such a file, it alone.
    """
    if root.is_file():
        return [root] if any(root.match(pattern) for pattern in patterns) else []
    found = {path for n in range(DEPTH + 1) for pattern in patterns for path in root.glob("*/" * n + pattern)}
    return sorted(path for path in found if path.is_file())


def by_name(root: Path, directories: Iterable[Path]) -> dict[str, Path]:
    """Directories by their paths below `root`; one that is not below it (`root` itself, or of a file) by its name."""
    return {d.relative_to(root).as_posix() if root in d.parents else d.name: d for d in directories}


def chosen_of(found: Mapping[str, Path], chosen: Sequence[str] | None, family: str, root: Path) -> dict[str, Path]:
    """Return the chosen coders by name; None takes all. Raises `UnknownNameError` for a name that is not there,
    `InputError` when there is nothing."""
    if not found:
        raise InputError(f"{family} coders: there are none in {root}, nor up to {DEPTH} directories below it")
    if chosen is None:
        return dict(found)
    for name in chosen:
        if name not in found:
            raise UnknownNameError(f"{family} coder in {root}", name, found)
    return {name: found[name] for name in chosen}
