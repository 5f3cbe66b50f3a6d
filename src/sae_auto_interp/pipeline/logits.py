"""Direct logit attribution: which tokens' logits a feature's decoder direction raises and lowers most.

    logits = W_U @ w_dec

per unit of activation, by the unembedding alone: the final norm, whose scale depends on the position, is left out, and
nothing is centred (as in the blog post and the paper of delphi's authors). It means something only for coders that
write into the residual stream: at a block, or at what an attention or MLP adds to it. Each feature is multiplied by
itself, so that a result does not depend on which others are asked for with it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Int64

from sae_auto_interp.config import RunConfig
from sae_auto_interp.features.vocabulary import Vocabulary
from sae_auto_interp.pipeline.cache_stage import add_attached, load_model
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.types import Array, FeatureId, TokenLogits

if TYPE_CHECKING:
    from torch import Tensor

VOCABULARY_AT_ONCE = 16_384
"""Rows of the unembedding that are held in float32."""


class SubjectLogits:
    """Looks up the top and bottom `n` tokens of features; loads the subject model when it is first asked."""

    def __init__(self, config: RunConfig, directory: RunDirectory, vocabulary: Vocabulary, n: int) -> None:
        self._config = config
        self._directory = directory
        self._vocabulary = vocabulary
        self._n = n
        self._model: Any = None
        self._attached: dict[str, Any] = {}

    def of(self, features: Sequence[FeatureId]) -> dict[FeatureId, TokenLogits]:
        """The logits of those features whose coder writes into the residual stream."""
        from sae_auto_interp.autoencoders.attach import attached_coder

        self._load()
        directions: dict[FeatureId, Tensor] = {}
        for feature in features:
            coder: Any = attached_coder(self._attached[feature.module_path])
            if writes_to_residual_stream(self._model, coder):
                directions[feature] = coder.w_dec[feature.index]
        return {feature: self._extremes(direction) for feature, direction in directions.items()}

    def _load(self) -> None:
        if self._model is None:
            self._model = load_model(self._config, self._directory.pinned)
            for autoencoder in self._config.autoencoders:
                add_attached(self._attached, self._config, autoencoder, self._model, self._directory.pinned)

    def _extremes(self, direction: "Tensor") -> TokenLogits:
        logits = token_logits(self._model, direction)[: len(self._vocabulary.pieces)]
        order = np.argsort(-logits, kind="stable")
        n = min(self._n, len(order))
        bottom = np.argsort(logits, kind="stable")[:n]
        return TokenLogits(self._named(order[:n], logits), self._named(bottom, logits))

    def _named(self, tokens: Int64[Array, " n"], logits: Float32[Array, " n_tokens"]) -> tuple[tuple[str, float], ...]:
        strings = (self._vocabulary.str_tokens(np.array([token]))[0] for token in tokens.tolist())
        return tuple(zip(strings, logits[tokens].tolist(), strict=True))


def token_logits(model: Any, direction: "Tensor") -> Float32[Array, " n_tokens"]:
    """What a direction adds to the logit of each token of the subject model."""
    import torch

    unembedding = _unembedding(model)
    assert unembedding is not None, "asked only where a coder writes to what it reads"
    n_tokens = unembedding.shape[0]
    with torch.inference_mode():
        vector = direction.to(unembedding.device).float()
        blocks = [slice(begin, begin + VOCABULARY_AT_ONCE) for begin in range(0, n_tokens, VOCABULARY_AT_ONCE)]
        return torch.cat([unembedding[block].float() @ vector for block in blocks]).cpu().numpy()


def writes_to_residual_stream(model: Any, coder: Any) -> bool:
    """Whether what a coder reconstructs is in the space that the unembedding reads."""
    from sae_auto_interp.models.placement import torch_model
    from sae_auto_interp.models.text_stack import text_stack

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


def _unembedding(model: Any) -> "Tensor | None":
    """[n_tokens, d_model], of a model that has one."""
    from sae_auto_interp.models.placement import torch_model

    whole: Any = torch_model(model)
    return getattr(whole.get_output_embeddings(), "weight", None) if hasattr(whole, "get_output_embeddings") else None
