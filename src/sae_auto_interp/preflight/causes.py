"""What to say of an autoencoder that fits neither here nor in any way that was tried: the likely causes, in order.

The figures cannot tell another model from another checkpoint of the same one. Names can speak for one or the other, and
are quoted with what they are held against; then come the causes, the likeliest first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sae_auto_interp.types.fit import Alternative, FitFigures

OTHER_SCALE = 3.0
"""Reconstructions so many times longer or shorter than the activations are said to be of another scale."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """The model that an autoencoder's files name, and the one that it is checked on."""

    claimed: str | None
    """None: they name none."""
    here: str
    is_same_name: bool = False


def unexplained(present: FitFigures, alternatives: Sequence[Alternative], base: BaseModel) -> str:
    """The end of a message, after the figures that refuse: what was tried, what it gives here, and why that may be."""
    return f"{_tried(present, alternatives)}; {_given(present)}likely causes, the likeliest first: {_causes(base)}"


def short(value: float | None) -> str:
    """Three digits; a dash for what is undefined."""
    return "–" if value is None else f"{value:.3g}"


def _tried(present: FitFigures, alternatives: Sequence[Alternative]) -> str:
    tried = f"none of {len(alternatives)} other places and readings that were tried explains it"
    if not alternatives or alternatives[0].figures.fvu is None:
        return tried
    best = alternatives[0]
    return (
        f"{tried} (the best, {best.what}: FVU {short(best.figures.fvu)}, here {short(present.fvu)} on "
        f"the same {present.n_tokens:,} tokens)"
    )


def _given(present: FitFigures) -> str:
    """How its reconstructions stand to the activations, with a semicolon behind; nothing where there are none."""
    ratio, cosine = present.norm_ratio, present.cosine
    if ratio is None or cosine is None:
        return ""
    if not 1 / OTHER_SCALE <= ratio <= OTHER_SCALE:
        return f"its reconstructions have {ratio:.3g} times the norm of these activations, which are of another scale; "
    return (
        f"its reconstructions are about as long as these activations and point elsewhere (mean cosine {cosine:.2f}); "
    )


def _causes(base: BaseModel) -> str:
    checkpoint = "on another checkpoint of this model, before or after a fine-tuning"
    incomplete = "this model's weights were not all loaded, or its own were changed"
    if base.claimed is None:
        return _numbered(
            f"it was trained on another model than {base.here} (its files name none)", checkpoint, incomplete
        )
    if base.is_same_name:
        first = f"it was trained {checkpoint} (its files name {base.claimed} too)"
        return _numbered(first, incomplete, "its files name the wrong model")
    first = f"it was trained on another model (its files name {base.claimed}, and this is {base.here})"
    return _numbered(first, checkpoint, incomplete)


def _numbered(*causes: str) -> str:
    return ", ".join(f"({number}) {cause}" for number, cause in enumerate(causes, 1))
