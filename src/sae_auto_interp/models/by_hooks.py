"""Read the input or output of chosen modules while the model runs, and stop it after the deepest one.

Plain PyTorch hooks: they work with any placement of the model and cost nothing. Activations are handed over from inside
the hook and not kept, so that what is computed from one site is done before the model goes on to the next: at any time
one site's activations are in memory, however many are read. As soon as every wanted module has been read, the forward
pass is left by a private exception, so later layers do not run. The model runs in evaluation mode, whatever mode it is
in. `models/by_nnsight.py` does the same through NNsight.
"""

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

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


@torch.inference_mode()
def read_activations(
    model: nn.Module,
    sites: Mapping[str, Site | Side],
    tokens: Int[Tensor, "batch seq"],
    attention_mask: Int[Tensor, "batch seq"],
    read: Read,
) -> None:
    """Call `read(name, [batch, seq, d])` for each of `sites` as one forward pass over `tokens` reaches it.

    `sites` are by name; `{module path: side}` will do where nothing else is to be said. In the order in which the model
    runs, in the model's own dtype and on the module's own device; `tokens` and `attention_mask` are where
    `placement.input_device` says. What `read` raises ends the pass and propagates. Raises
    `UnknownNameError` for a path that the model does not have, and `InputError` for a module that the forward pass
    never reached (after the others were read), or whose value is not one vector per token.
    """
    if not sites:
        return
    wanted = as_sites(sites)
    modules = site_modules(model, wanted)
    reader = SiteReader(wanted, tokens, read)
    with ExitStack() as stack:
        for name, site in wanted.items():
            stack.callback(_hook(modules[name], name, site.side, reader).remove)
        stack.enter_context(evaluation_mode(model))
        stack.enter_context(uncompiled())
        stack.enter_context(suppress(StopForward))
        model(input_ids=tokens, attention_mask=attention_mask, use_cache=False)
    reader.check_all_read()


def capture(
    model: nn.Module,
    sites: Mapping[str, Site | Side],
    tokens: Int[Tensor, "batch seq"],
    attention_mask: Int[Tensor, "batch seq"],
) -> dict[str, Float[Tensor, "batch seq _"]]:
    """Activations at each site, {name: tensor}, all of them in memory: `read_activations` for a few rows."""
    caught: dict[str, Tensor] = {}
    read_activations(model, sites, tokens, attention_mask, caught.__setitem__)
    return caught


def _hook(module: nn.Module, name: str, side: Side, reader: SiteReader) -> RemovableHandle:
    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        reader.take(name, first_argument(args, kwargs))

    def after(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        reader.take(name, output)

    if side == "input":
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after)
