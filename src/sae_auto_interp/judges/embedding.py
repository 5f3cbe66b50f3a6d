"""An embedding model as judge: does the text lie near enough to the explanation?

The cosine of explanation and text is what such a model knows; from which cosine on a text fits depends on the model, so
`threshold` has no default. AUROC, average precision and forced choices do not depend on it. Marked examples are
represented by their marked tokens alone, as fuzzing asks about those.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from jaxtyping import Float32

from sae_auto_interp.errors import ClientError, ConfigError
from sae_auto_interp.protocols import Embedder
from sae_auto_interp.types import Array, Failure, ShownExample, Usage, Verdict

_DIGITS = 6
"""Digits of a cosine that are kept; further ones differ from machine to machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingJudge:
    """Yes from a cosine of `threshold` on; the probability is (1 + cosine) / 2, good for ranking only."""

    embedder: Embedder
    threshold: float
    """Cosine from which a text fits; look at the development windows of a few features to set it."""
    query_prefix: str = ""
    """Put before the explanation, for models that want an instruction there."""

    def __post_init__(self) -> None:
        if not -1 <= self.threshold <= 1:
            raise ConfigError(f"judges.embedding.threshold={self.threshold}; give a cosine from -1 to 1")

    @property
    def name(self) -> str:
        return f"embedding:{self.embedder.name}"

    async def judge(
        self, explanation: str, examples: Sequence[ShownExample], task: str
    ) -> tuple[list[Verdict | Failure], Usage]:
        """Each example by its own cosine with the explanation."""
        try:
            cosines = await self._cosines(explanation, examples)
        except ClientError as error:
            return [Failure("score", error.kind, str(error))] * len(examples), Usage()
        return [Verdict(value >= self.threshold, round((1 + value) / 2, _DIGITS)) for value in cosines], Usage()

    async def choose(
        self, explanation: str | None, examples: Sequence[ShownExample], task: str
    ) -> tuple[Sequence[float] | Failure, Usage]:
        """Without an explanation the intruder is the one that is least like the others, by its mean cosine."""
        try:
            if explanation is None:
                return _least_alike(await self._vectors(examples)), Usage()
            cosines = await self._cosines(explanation, examples)
        except ClientError as error:
            return Failure("score", error.kind, str(error)), Usage()
        return [value if task == "discrimination" else -value for value in cosines], Usage()

    async def _cosines(self, explanation: str, examples: Sequence[ShownExample]) -> list[float]:
        vectors = await self._vectors(examples)
        (query,) = await self.embedder.embed([self.query_prefix + explanation])
        return [round(float(value), _DIGITS) for value in vectors @ query]

    async def _vectors(self, examples: Sequence[ShownExample]) -> Float32[Array, "n d"]:
        return await self.embedder.embed([_text(shown) for shown in examples])


def _least_alike(vectors: Float32[Array, "n d"]) -> list[float]:
    alike = vectors @ vectors.T
    others = (alike.sum(axis=1) - np.diag(alike)) / (len(vectors) - 1)
    return [round(-float(value), _DIGITS) for value in others]


def _text(shown: ShownExample) -> str:
    """The whole text, or the runs of marked tokens, one after the other."""
    if shown.highlighted is None:
        return "".join(shown.str_tokens)
    runs = groupby(zip(shown.str_tokens, shown.highlighted, strict=True), key=lambda pair: pair[1])
    return " ... ".join("".join(token for token, _ in run).strip() for is_marked, run in runs if is_marked)
