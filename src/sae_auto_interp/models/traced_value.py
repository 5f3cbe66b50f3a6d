"""Read and replace the value of a site inside a running NNsight trace.

Call these in a trace (or a function called there), site by site in the order of the forward pass: NNsight hands out
values as they arise. What a module reads goes through all of its arguments, because transformers may hand over the
hidden states by name and not first; NNsight's own `.input` is whichever comes first.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sae_auto_interp.models.site_reader import first_argument, site_tensor
from sae_auto_interp.models.sites.site import Site


def traced_value(handle: Any, site: Site) -> Tensor:
    """What stands at `site`, in the model's own dtype and before the site's transform. `handle` is its module's."""
    if site.side == "output":
        return site_tensor(site, handle.output)
    args, kwargs = handle.inputs
    return site_tensor(site, first_argument(args, kwargs))


def replace_traced_value(handle: Any, site: Site, new: Tensor) -> None:
    """Let the model go on with `new` instead; all else that the module reads or gives stays as it is."""
    if site.side == "input":
        args, kwargs = handle.inputs
        handle.inputs = _with_first_argument(args, kwargs, new)
        return
    value = handle.output
    if not isinstance(value, tuple | list):
        handle.output = new
        return
    items = [new if i == site.item else item for i, item in enumerate(value)]
    handle.output = items if isinstance(value, list) else tuple(items)


def _with_first_argument(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], new: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The counterpart of `first_argument`. An input that is itself a tuple has the hidden states first."""
    old = first_argument(args, kwargs)
    replaced: Any = type(old)((new, *old[1:])) if isinstance(old, tuple | list) else new
    if args:
        return (replaced, *args[1:]), dict(kwargs)
    name = "hidden_states" if "hidden_states" in kwargs else next(iter(kwargs))
    return (), {**kwargs, name: replaced}
