"""The part of a subject model that is a stack of blocks over token embeddings, and paths in it.

The stack is found by its own configuration and children, never by its path: so it is the same below a causal language
model's `model`, a multimodal model's `model.language_model`, an adapter's prefix or a compiled model's `_orig_mod`.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from sae_auto_interp.errors import InputError
from sae_auto_interp.models.architectures import ARCHITECTURES, Architecture, architecture_for
from sae_auto_interp.models.placement import torch_model

WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
"""Attributes under which a wrapped module holds what it wraps: of `torch.compile` and torch.distributed."""


@dataclass(frozen=True, slots=True)
class TextStack:
    """Where the blocks are."""

    module: nn.Module
    """Owns the embedding and the blocks."""
    path: str
    """Of `module`, in the whole model; empty when it is the model itself."""
    architecture: Architecture

    @property
    def model_type(self) -> str:
        return str(getattr(self.module.config, "model_type", "unknown"))

    @property
    def n_layers(self) -> int:
        _, blocks = _descend(self.module, self.architecture.blocks)
        return len(blocks) if isinstance(blocks, nn.ModuleList) else 0

    def path_to(self, path: str) -> str:
        """The full path of `path` below the stack; wrappers on the way need not be named."""
        found, _ = _descend(self.module, path)
        return joined(self.path, found)

    def holds(self, path: str) -> bool:
        """Whether the module at a full path is part of the stack."""
        return not self.path or path == self.path or path.startswith(f"{self.path}.")

    def block_path(self, layer: int) -> str:
        return f"{self.architecture.blocks}.{layer}"


def text_stack(model: Any) -> TextStack | None:
    """The stack of a model of a known architecture; None for others. Raises `InputError` when there are several."""
    found = [
        TextStack(module, path, architecture)
        for path, module in torch_model(model).named_modules()
        if (architecture := architecture_for(getattr(module, "config", None))) is not None
        and isinstance(_descend_or_none(module, architecture.blocks), nn.ModuleList)
        and _descend_or_none(module, architecture.embedding) is not None
    ]
    if len(found) > 1:
        paths = ", ".join(stack.path or "the model itself" for stack in found)
        raise InputError(f"the model holds several stacks of blocks ({paths}); name sites by full module paths")
    return found[0] if found else None


def require_text_stack(model: Any, name: str) -> TextStack:
    """The stack of a model for which `name` is to have a meaning; raises `InputError` where there is none."""
    stack = text_stack(model)
    if stack is None:
        known, module = ", ".join(ARCHITECTURES), torch_model(model)
        model_type = getattr(getattr(module, "config", None), "model_type", None) or type(module).__name__
        raise InputError(
            f"{name} has a meaning for models of type {known}, but this one is {model_type}; "
            "give the module's own path, such as 'layers.3.mlp:out'"
        )
    return stack


def joined(*parts: str) -> str:
    """A module path of parts, of which some may be empty."""
    return ".".join(part for part in parts if part)


def _descend(module: nn.Module, path: str) -> tuple[str, nn.Module]:
    """The path as the model spells it, and the module there. Raises `AttributeError`."""
    spelled: list[str] = []
    for part in path.split(".") if path else []:
        while not hasattr(module, part):
            wrapper = next((name for name in WRAPPERS if hasattr(module, name)), None)
            if wrapper is None:
                raise AttributeError(f"no module {path}")
            spelled.append(wrapper)
            module = getattr(module, wrapper)
        spelled.append(part)
        module = getattr(module, part)
    return ".".join(spelled), module


def _descend_or_none(module: nn.Module, path: str) -> nn.Module | None:
    try:
        return _descend(module, path)[1]
    except AttributeError:
        return None
