"""Rankings of windows by the vectors of an embedding model."""

from collections.abc import Sequence

from jaxtyping import Float32

from sae_auto_interp.errors import ClientError
from sae_auto_interp.protocols import Embedder
from sae_auto_interp.scorers._questions import NO_TEXT
from sae_auto_interp.types import Array, Example, Failure, Trial

_DIGITS = 6
"""Digits of a cosine that are kept; further ones differ from machine to machine."""


async def embedded(embedder: Embedder, texts: Sequence[str]) -> "Float32[Array, 'n d'] | Failure":
    """The texts' vectors, or why there are none."""
    try:
        return await embedder.embed(texts)
    except ClientError as error:
        return Failure("score", error.kind, str(error))


def ranking_trials(examples: Sequence[Example], fits: Sequence[float] | Failure) -> tuple[Trial, ...]:
    """One trial per example, with how well it fits; an example without strings is a failure."""
    each = [fits] * len(examples) if isinstance(fits, Failure) else fits
    return tuple(_trial(example, fit) for example, fit in zip(examples, each, strict=True))


def _trial(example: Example, fit: float | Failure) -> Trial:
    failure = fit if isinstance(fit, Failure) else None if example.str_tokens else NO_TEXT
    return Trial(
        target=example.source == "activating",
        prediction=None,
        confidence=None if failure is not None or isinstance(fit, Failure) else round(fit, _DIGITS),
        source=example.source,
        quantile=example.quantile,
        document=example.document,
        failure=failure,
    )
