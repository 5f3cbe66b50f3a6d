"""The part of a subject model that is a stack of blocks over token embeddings, and paths in it.

The stack is found by its own configuration and children, never by its path: so it is the same below a causal language
model's `model`, a multimodal model's `model.language_model`, an adapter's prefix or a compiled model's `_orig_mod`.

Paths through modules that wrap another: `torch.compile` and torch.distributed put one more step into every path.

A wrapper also hands out the children of what it wraps as if they were its own. A path here is always spelled with the
steps that are really there, so that one module has one path.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from sae_auto_interp.errors import InputError
from sae_auto_interp.models.placement import torch_model
from sae_auto_interp.models.sites.architectures import ARCHITECTURES, Architecture, architecture_for

WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
"""Attributes under which a wrapper holds what it wraps."""


def descend(module: nn.Module, path: str) -> tuple[str, nn.Module] | None:
    """The path below `module` as it is spelled in full, and the module there; None where there is none.

    Wrappers on the way need not be named; at its end a path means the wrapper.
    """
    spelled: list[str] = []
    for part in path.split("."):
        while part not in WRAPPERS and (wrapper := _wrapper_of(module)) is not None:
            spelled.append(wrapper)
            module = module.get_submodule(wrapper)
        found = getattr(module, part, None)
        if not isinstance(found, nn.Module):
            return None
        spelled.append(part)
        module = found
    return ".".join(spelled), module


def plain(path: str) -> str:
    """A path without the wrappers' steps."""
    return ".".join(part for part in path.split(".") if part not in WRAPPERS)


def _wrapper_of(module: nn.Module) -> str | None:
    return next((name for name, _ in module.named_children() if name in WRAPPERS), None)


@dataclass(frozen=True, slots=True)
class TextStack:
    """Where the blocks are."""

    module: nn.Module
    """Owns the embedding and the blocks."""
    path: str
    """Path of `module` in the whole model; empty when it is the model itself."""
    architecture: Architecture

    @property
    def model_type(self) -> str:
        return str(getattr(self.module.config, "model_type", "unknown"))

    @property
    def n_layers(self) -> int:
        blocks = _blocks(self.module, self.architecture)
        return 0 if blocks is None else len(blocks)

    def path_to(self, path: str) -> str:
        """The full path of `path` below the stack; wrappers on the way need not be named."""
        found = descend(self.module, path)
        if found is None:
            raise InputError(f"the model's blocks have no {path!r}, though models of type {self.model_type} do")
        return joined(self.path, found[0])

    def holds(self, path: str) -> bool:
        """Whether the module at a full path is part of the stack."""
        return not self.path or path == self.path or path.startswith(f"{self.path}.")

    def block_path(self, layer: int) -> str:
        return f"{self.architecture.blocks}.{layer}"


def text_stacks(model: Any) -> list[TextStack]:
    """All stacks of known architectures in a model: one in nearly every model, none in others."""
    found: dict[int, TextStack] = {}
    for path, module in torch_model(model).named_modules():
        architecture = architecture_for(getattr(module, "config", None))
        if architecture is None or descend(module, architecture.embedding) is None:
            continue
        blocks = _blocks(module, architecture)
        if blocks is not None:  # a wrapper has the same as what it wraps: the outermost counts
            found.setdefault(id(blocks), TextStack(module, path, architecture))
    return list(found.values())


def text_stack(model: Any) -> TextStack | None:
    """The stack of a model of a known architecture; None for others. Raises `InputError` when there are several."""
    found = text_stacks(model)
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


def _blocks(module: nn.Module, architecture: Architecture) -> nn.ModuleList | None:
    found = descend(module, architecture.blocks)
    return found[1] if found is not None and isinstance(found[1], nn.ModuleList) else None
