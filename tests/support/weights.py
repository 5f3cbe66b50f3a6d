"""Weight files that are changed after they have been read."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file


def replace_file(tensors: Mapping[str, torch.Tensor], file: Path, metadata: dict[str, str] | None = None) -> None:
    """Put a new safetensors file in the place of `file`.

    Older safetensors write into the file that is there, which what was read from it may still map into memory.
    """
    new = file.with_suffix(".new")
    save_file(dict(tensors), new, metadata)
    new.replace(file)
