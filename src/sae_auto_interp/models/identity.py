"""What a subject model is: its name, its settings and digests of weights, for manifests and fingerprints."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import torch
from torch import Tensor, nn

from sae_auto_interp.errors import InputError
from sae_auto_interp.models.hub import PREFIX as HUB_PREFIX
from sae_auto_interp.models.placement import stored_value
from sae_auto_interp.types import Array

PART_BYTES = 1 << 24
N_THREADS = min(8, os.cpu_count() or 1)
SAMPLED_ENTRIES = 4096
"""Entries of each parameter that `sampled_sha256` reads, about."""


def model_name(model: nn.Module) -> str:
    """Where the model was loaded from; the name of its class when it was made in place."""
    return str(getattr(_config_of(model), "_name_or_path", "") or type(model).__name__)


def model_source(model: nn.Module) -> str:
    """Address on the hub, with the commit, that the model was loaded from; empty for what did not come from there."""
    commit = getattr(_config_of(model), "_commit_hash", None)
    return f"{HUB_PREFIX}{model_name(model)}@{commit}" if commit else ""


def model_settings(model: nn.Module) -> dict[str, Any]:
    """The model's configuration, but for its name: where it was loaded from changes nothing."""
    config = _config_of(model)
    settings: dict[str, Any] = config.to_dict() if hasattr(config, "to_dict") else {}
    return {name: value for name, value in settings.items() if name != "_name_or_path"}


def check_token_ids(model: nn.Module, tokens: Array) -> None:
    """Raise `InputError` for ids without an embedding: on a GPU they would fail deep inside, without a message."""
    smallest, largest = int(tokens.min()), int(tokens.max())
    config = _config_of(model)
    n_ids = getattr(getattr(config, "text_config", config), "vocab_size", None)  # multimodal models have two
    if smallest < 0 or (isinstance(n_ids, int) and largest >= n_ids):
        known = "must not be negative" if n_ids is None else f"the model knows 0 to {n_ids - 1}"
        raise InputError(f"tokens hold ids from {smallest} to {largest}; {known}")


def weights_sha256(module: nn.Module) -> str:
    """Digest of every parameter and buffer of a module, names, types and shapes included, wherever they are kept.

    Large weights go in by the digests of parts of `PART_BYTES`, which threads compute: each copies one part at a time.
    """
    digest = hashlib.sha256()
    with ThreadPoolExecutor(N_THREADS) as threads:
        for name, value in sorted(module.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            for part in _digested(stored_value(module, name, value), threads):
                digest.update(part)
    return digest.hexdigest()


def sampled_sha256(module: nn.Module) -> str:
    """Digest of evenly spread entries of every weight: tells trained models apart in well under a second.

    Hashing a large subject model in full would take longer than starting it. A change of a few single weights can go
    unnoticed; training, merging or rounding the model cannot. The same wherever the weights are placed: offloaded
    ones are read where accelerate keeps them, and tied ones count under each name, for offloading unties them.
    Quantised weights count as they are stored, which may be in buffers. Attached autoencoders do not count.
    """
    foreign = tuple(f"{path}." for path, part in module.named_modules() if path and not _is_part_of_model(part))
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        for tensor in () if name.startswith(foreign) else _tensors(value):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bytes_of(_spread(stored_value(module, name, tensor))))
    return digest.hexdigest()


def _config_of(model: nn.Module) -> Any:
    return getattr(model, "config", None)


def _is_part_of_model(module: nn.Module) -> bool:
    return getattr(module, "is_part_of_model", True)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The plain tensors that a state's value is made of: quantised weights come in tuples, with their scales, or as
    tensors that hold others. What else there is are settings."""
    if isinstance(value, tuple | list):
        for part in cast(Sequence[Any], value):
            yield from _tensors(part)
    elif hasattr(value, "__tensor_flatten__"):
        for name in value.__tensor_flatten__()[0]:
            yield from _tensors(getattr(value, name))
    elif isinstance(value, Tensor) and value.is_quantized:
        yield value.int_repr()
        per_tensor = value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric)
        yield torch.tensor(value.q_scale()) if per_tensor else value.q_per_channel_scales()
    elif isinstance(value, Tensor):
        yield value


def _spread(value: Tensor) -> Tensor:
    step = max(1, value.numel() // SAMPLED_ENTRIES)
    return value.reshape(-1)[::step]


def _digested(value: Tensor, threads: ThreadPoolExecutor) -> Iterator[bytes | memoryview]:
    """What stands for a weight: its bytes if they are few, or else the digests of its parts along the first axis."""
    if value.nbytes <= PART_BYTES:
        return iter([_bytes_of(value)])
    parts = value.split(max(1, PART_BYTES * len(value) // value.nbytes))
    if value.is_cuda:  # a thread copies on a stream of its own, which waits for nothing
        torch.cuda.current_stream(value.device).synchronize()
    is_for_threads = value.is_cuda or value.device.type == "cpu"  # torch's other devices may be used by one at a time
    return threads.map(_digest, parts) if is_for_threads else map(_digest, parts)


def _digest(part: Tensor) -> bytes:
    return hashlib.sha256(_bytes_of(part)).digest()


def _bytes_of(value: Tensor) -> memoryview:
    return value.cpu().contiguous().flatten().view(torch.uint8).numpy().data
