"""How many dimensions the vectors at a site have, by running one token through the model as far as there.

`attach` needs an answer for models that cannot run, and looks at the module alone; this one is right for every site.
"""

from typing import Any

import torch

from sae_auto_interp.models.capture import capture
from sae_auto_interp.models.placement import input_device, torch_model
from sae_auto_interp.models.site import Site


def site_width(model: Any, site: Site) -> int:
    """The number of dimensions. Raises `InputError` for a site that gives no vectors."""
    module = torch_model(model)
    tokens = torch.zeros(1, 1, dtype=torch.long, device=input_device(module))
    return capture(module, {"site": site}, tokens, torch.ones_like(tokens))["site"].shape[-1]
