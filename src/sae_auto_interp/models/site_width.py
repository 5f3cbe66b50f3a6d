"""How many dimensions the vectors at a site have: the module says so, or one token is run through the model."""

from typing import Any

import torch
from torch import nn

from sae_auto_interp.models.capture import capture
from sae_auto_interp.models.placement import input_device, torch_model
from sae_auto_interp.models.site import Site


def site_width(model: Any, site: Site) -> int:
    """The number of dimensions. Raises `InputError` for a site that gives no vectors."""
    module = torch_model(model)
    known = known_width(module, site)
    if known is not None:
        return known
    tokens = torch.zeros(1, 1, dtype=torch.long, device=input_device(module))
    return capture(module, {"site": site}, tokens, torch.ones_like(tokens))["site"].shape[-1]


def known_width(model: nn.Module, site: Site) -> int | None:
    """Width of what a module reads or writes. A linear layer knows it; others with weights are as wide as the model.

    None where it cannot be told without running it: an activation function is as wide as what it is given.
    """
    if site.transform == "token_ids":
        return 1
    module = model.get_submodule(site.module_path)
    for name in ("in_features", "nx") if site.side == "input" else ("out_features", "nf", "embedding_dim"):
        width = getattr(module, name, None)
        if isinstance(width, int):
            return width
    has_weights = next(module.parameters(), None) is not None
    width = getattr(getattr(model, "config", None), "hidden_size", None)
    return width if has_weights and isinstance(width, int) else None
