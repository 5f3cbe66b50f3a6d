"""The same activations as `models/by_hooks.py`, bit for bit, read inside an NNsight trace.

Each site waits in an invoke of its own, so NNsight serves it when the model gets there: no order of execution is
assumed, none has to be found out first. The pass is left by the exception that the hooks use. `tracer.stop()` would do
it too, but NNsight 0.8 then leaves a cycle of references around the last value, which holds a layer's activations
until the garbage collector comes by.

The trace runs on a wrapper of its own around the model's modules. The model's stored edits are not replayed: `attach`
stores one per autoencoder, which would compute the dense code of every token. Nor are inputs padded or given positions
as `TransformersModel.trace` does: the model is called just as it is with hooks. One difference remains: where
a PyTorch hook of the user's replaces a module's output, NNsight gives the value before that, and hooks the one after.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Int
from nnsight import NNsight
from nnsight.intervention.interleaver import OutOfOrderError
from torch import Tensor, nn

from sae_auto_interp.models.placement import torch_model
from sae_auto_interp.models.site_reader import (
    Read,
    SiteReader,
    StopForward,
    evaluation_mode,
    first_argument,
    site_modules,
    uncompiled,
)
from sae_auto_interp.models.sites.site import Side, Site, as_sites


class PlainTrace(NNsight):
    """The model's modules without its edits. Inputs stay where they are: the first parameter may be offloaded."""

    @property
    def device(self) -> None:
        return None


def plain_trace(model: Any) -> PlainTrace:
    """Wrap the torch model inside `model` anew; worth keeping for many passes."""
    return model if isinstance(model, PlainTrace) else PlainTrace(torch_model(model))


@torch.inference_mode()
def read_activations(
    model: Any,
    sites: Mapping[str, Site | Side],
    tokens: Int[Tensor, "batch seq"],
    attention_mask: Int[Tensor, "batch seq"],
    read: Read,
) -> None:
    """`capture.read_activations` for a model that NNsight wraps (`NNsight`, `LanguageModel`, `TransformersModel`).

    Same calls of `read`, same order, same errors. NNsight reads the source of this file to run the block below, and
    allows one trace at a time per model.
    """
    if not sites:
        return
    traced = plain_trace(model)
    module = torch_model(traced)
    wanted = as_sites(sites)
    handles = _handles(traced, site_modules(module, wanted))
    reader = SiteReader(wanted, tokens, read)
    trace: Any = traced.trace()
    with evaluation_mode(module), uncompiled():
        try:
            with trace:
                with trace.invoke(input_ids=tokens, attention_mask=attention_mask, use_cache=False):
                    pass
                for name, site in wanted.items():
                    with trace.invoke():
                        _take(handles[name], name, site.side, reader)
        except StopForward:
            return
        except OutOfOrderError:
            reader.check_all_read()
            raise


def _take(handle: Any, name: str, side: Side, reader: SiteReader) -> None:
    """Wait until the model gets there. In a function, so that the trace keeps no value in a variable of its block."""
    reader.take(name, first_argument(*handle.inputs) if side == "input" else handle.output)


def _handles(traced: PlainTrace, modules: Mapping[str, nn.Module]) -> dict[str, Any]:
    """NNsight's handle of each module, found by identity: a module may have two paths, and NNsight renames some."""
    by_module = {id(handle._module): handle for handle in traced.modules()}
    return {name: by_module[id(module)] for name, module in modules.items()}
