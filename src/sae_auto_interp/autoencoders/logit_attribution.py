"""Direct logit attribution: what a feature's decoder direction adds to the logit of each token.

    logits = W_U @ w_dec

per unit of activation, by the unembedding alone: the final norm, whose scale depends on the position, is left out, and
nothing is centred (as in the blog post and the paper of delphi's authors). It means something only for coders that
write into the residual stream: at a block, or at what an attention or MLP adds to it.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from sae_auto_interp.models.placement import torch_model
from sae_auto_interp.models.sites.text_stack import text_stack

VOCABULARY_AT_ONCE = 16_384
"""Rows of the unembedding that are held in float32."""


def token_logits(model: Any, direction: Tensor) -> Float32[np.ndarray, " n_tokens"]:
    """What a direction adds to the logit of each token of the subject model."""
    unembedding = _unembedding(model)
    assert unembedding is not None, "asked only where a coder writes to what it reads"
    n_tokens = unembedding.shape[0]
    with torch.inference_mode():
        vector = direction.to(unembedding.device).float()
        blocks = [slice(begin, begin + VOCABULARY_AT_ONCE) for begin in range(0, n_tokens, VOCABULARY_AT_ONCE)]
        return torch.cat([unembedding[block].float() @ vector for block in blocks]).cpu().numpy()


def writes_to_residual_stream(model: Any, coder: Any) -> bool:
    """Whether what a coder reconstructs is in the space that the unembedding reads."""
    stack, unembedding = text_stack(model), _unembedding(model)
    w_dec, placement = getattr(coder, "w_dec", None), coder.placement
    if stack is None or unembedding is None or w_dec is None or placement is None:
        return False
    site = placement.reconstructed
    if w_dec.shape[1] != unembedding.shape[1] or site.transform not in ("none", "centred"):
        return False
    blocks = stack.path_to(stack.architecture.blocks)
    path = site.module_path.removeprefix(f"{blocks}.").split(".")
    if not site.module_path.startswith(f"{blocks}.") or len(path) > 2:
        return False
    module = torch_model(model).get_submodule(site.module_path)
    return len(path) == 1 or (site.side == "output" and "norm" not in type(module).__name__.lower())


def _unembedding(model: Any) -> Tensor | None:
    """[n_tokens, d_model], of a model that has one."""
    whole: Any = torch_model(model)
    return getattr(whole.get_output_embeddings(), "weight", None) if hasattr(whole, "get_output_embeddings") else None
