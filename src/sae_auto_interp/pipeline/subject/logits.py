"""What features write to the subject model's output, for the records of a run.

The model and its coders are loaded when the first feature is asked for. Each feature is multiplied by itself, so that a
result does not depend on which others are asked for with it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Int64

from sae_auto_interp.features.vocabulary import Vocabulary
from sae_auto_interp.pipeline.cache_stage import load_subject
from sae_auto_interp.pipeline.resolved import Subject
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.types import Array, FeatureId, TokenLogits

if TYPE_CHECKING:
    from torch import Tensor


class SubjectLogits:
    """Looks up the top and bottom `n` tokens of features; loads the subject model when it is first asked."""

    def __init__(self, subject: Subject, directory: RunDirectory, vocabulary: Vocabulary, n: int) -> None:
        self._subject = subject
        self._directory = directory
        self._vocabulary = vocabulary
        self._n = n
        self._model: Any = None
        self._attached: dict[str, Any] = {}

    def of(self, features: Sequence[FeatureId]) -> dict[FeatureId, TokenLogits]:
        """The logits of those features whose coder writes into the residual stream."""
        from sae_auto_interp.autoencoders.attach import attached_coder
        from sae_auto_interp.autoencoders.logit_attribution import writes_to_residual_stream

        self._load()
        directions: dict[FeatureId, Tensor] = {}
        for feature in features:
            coder: Any = attached_coder(self._attached[feature.module_path])
            if writes_to_residual_stream(self._model, coder):
                directions[feature] = coder.w_dec[feature.index]
        return {feature: self._extremes(direction) for feature, direction in directions.items()}

    def _load(self) -> None:
        if self._model is None:
            self._model, self._attached = load_subject(self._subject, self._directory.pinned)

    def _extremes(self, direction: "Tensor") -> TokenLogits:
        from sae_auto_interp.autoencoders.logit_attribution import token_logits

        logits = token_logits(self._model, direction)[: len(self._vocabulary.pieces)]
        order = np.argsort(-logits, kind="stable")
        n = min(self._n, len(order))
        bottom = np.argsort(logits, kind="stable")[:n]
        return TokenLogits(self._named(order[:n], logits), self._named(bottom, logits))

    def _named(self, tokens: Int64[Array, " n"], logits: Float32[Array, " n_tokens"]) -> tuple[tuple[str, float], ...]:
        strings = (self._vocabulary.alone(token) for token in tokens.tolist())
        return tuple(zip(strings, logits[tokens].tolist(), strict=True))
