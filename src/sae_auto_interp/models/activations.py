"""Choose how activations are read: plain hooks, the default, or an NNsight trace. Both give the same bits."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from sae_auto_interp.errors import UnknownNameError
from sae_auto_interp.models.by_hooks import read_activations
from sae_auto_interp.models.placement import torch_model
from sae_auto_interp.models.site_reader import Read
from sae_auto_interp.models.sites.site import Side, Site

BACKENDS = ("hooks", "nnsight")

ActivationReader = Callable[[Mapping[str, Site | Side], Tensor, Tensor, Read], None]
"""`read_activations` of one model: (sites, tokens, attention_mask, read)."""


def activation_reader(model: Any, backend: str = "hooks") -> ActivationReader:
    """`read_activations` bound to `model`, a torch module or one that NNsight wraps.

    Make it once and use it for every batch: the NNsight backend wraps the model's modules anew here. Raises
    `UnknownNameError` for a backend other than "hooks" and "nnsight".
    """
    if backend == "hooks":
        return partial(read_activations, torch_model(model))
    if backend == "nnsight":
        from sae_auto_interp.models import by_nnsight

        return partial(by_nnsight.read_activations, by_nnsight.plain_trace(model))
    raise UnknownNameError("activation backend", backend, BACKENDS)
