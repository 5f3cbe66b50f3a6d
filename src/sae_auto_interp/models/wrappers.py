"""Paths through modules that wrap another: `torch.compile` and torch.distributed put one more step into every path.

A wrapper also hands out the children of what it wraps as if they were its own. A path here is always spelled with the
steps that are really there, so that one module has one path.
"""

from torch import nn

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
