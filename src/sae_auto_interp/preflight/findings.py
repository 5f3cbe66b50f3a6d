"""Figures, claims and what else was tried -> what does not fit, in words. Pure: the numbers decide, no model is asked.

A message says what was measured, and names as the cause only what explains the activations much better when it is
changed (FVU at most LEAST_GAIN of what it is now, and no lower cosine, on the same tokens). Where nothing that was
tried does, it says so, and what the likely causes are (`unexplained`).

The figures cannot tell another model from another checkpoint of the same one. Names can speak for one or the other, and
are quoted with what they are held against; then come the causes, the likeliest first.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sae_auto_interp.types.fit import OVERRIDABLE, WEIGHTS, Alternative, Finding, FitClaims, FitFigures, Severity

OTHER_SCALE = 3.0
"""Ratio of lengths from which reconstructions are said to be of another scale than the activations."""


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


FVU_LIMIT = 1.0
L0_FACTOR = 3.0
LEAST_GAIN = 2 / 3
"""Another place or reading is the better one when its FVU is at most this part of the present one."""
SMALL_FVU, LARGE_COSINE = 0.02, 0.98
"""With an FVU up to the first and a cosine from the second on, no other place is much better, whatever the ratio of the
two is: a coder that was trained on several places has small values at each. The cosine tells them from those of a few
enormous vectors, which make the FVU small where the others are not reconstructed."""
WORTH_A_WORD = 0.9
"""The same for a warning."""
CODES = {"place": "site", "reading": "reading"}
CHANCE_FRACTION = 0.9
"""Share of the FVU on mixed-up activations; above it the fit says nothing."""


def findings_of(
    figures: FitFigures,
    claims: FitClaims,
    chance_fvu: float | None,
    searched: FitFigures,
    alternatives: Sequence[Alternative],
    base: BaseModel,
    allowed: Collection[str],
) -> tuple[Finding, ...]:
    """What is refused, or was allowed by name. `searched` are the present wiring's figures on the tokens on which the
    `alternatives` (best first) were tried; `base` is named where none of them explains anything."""
    found = _numbers(figures) + _reconstruction(figures, chance_fvu) + _l0(figures, claims)
    misfits = [code for code, _ in found if code != "numbers"]
    leaves_room = misfits or not _is_small(searched)
    better = best_explanation(searched, alternatives, claims, LEAST_GAIN) if leaves_room else None
    if better is not None and better.kind != "rows":
        found.append((CODES[better.kind], _better(searched, better)))
    elif misfits:
        code, message = found[-1]
        cause = unexplained(searched, alternatives, base) if better is None else _better(searched, better)
        found[-1] = (code, f"{message}; {cause}")
    refused = tuple(finding(code, message, allowed) for code, message in found)
    little = better or best_explanation(searched, alternatives, claims, WORTH_A_WORD)
    is_said = little is None or misfits or (better is not None and better.kind != "rows")
    return refused if is_said or little is None else (*refused, Finding("fit", "warning", _better(searched, little)))


def finding(code: str, message: str, allowed: Collection[str]) -> Finding:
    """A refusal, or what the user allowed in its place."""
    severity: Severity = "allowed" if code in allowed and code != WEIGHTS else "refused"
    assert code in OVERRIDABLE or code == WEIGHTS, code
    return Finding(code, severity, message)


def best_explanation(
    present: FitFigures, alternatives: Sequence[Alternative], claims: FitClaims, gain: float
) -> Alternative | None:
    """The alternative of the lowest FVU, at most `gain` times the present one, that fits the claimed L0 as well."""
    for other in alternatives:
        fvu = other.figures.fvu
        if present.fvu is None or fvu is None or fvu > gain * present.fvu or fvu > FVU_LIMIT:
            continue
        if _is_closer(present, other.figures) and not _l0(other.figures, claims):
            return other
    return None


def _is_small(present: FitFigures) -> bool:
    """Whether the misfit is so small that nothing could be much better."""
    fvu, cosine = present.fvu, present.cosine
    return fvu is not None and fvu <= SMALL_FVU and cosine is not None and cosine >= LARGE_COSINE


def _is_closer(present: FitFigures, other: FitFigures) -> bool:
    """By direction too: a few enormous vectors decide the FVU, and not the mean cosine."""
    return present.cosine is None or (other.cosine is not None and other.cosine >= present.cosine)


def _numbers(figures: FitFigures) -> list[tuple[str, str]]:
    if not figures.n_unusable_tokens:
        return []
    total = figures.n_tokens + figures.n_unusable_tokens
    return [
        (
            "numbers",
            f"activations are NaN, infinite or enormous on {figures.n_unusable_tokens:,} of {total:,} tokens; load the "
            "subject model in float32 or bfloat16",
        )
    ]


def _reconstruction(figures: FitFigures, chance_fvu: float | None) -> list[tuple[str, str]]:
    fvu = figures.fvu
    if fvu is None:
        return []
    if fvu > FVU_LIMIT:
        return [
            ("fvu", f"FVU is {fvu:.3g} on {figures.n_tokens:,} tokens: the mean vector alone would do better (1.0)")
        ]
    if chance_fvu is not None and fvu > CHANCE_FRACTION * chance_fvu:
        return [
            (
                "chance",
                f"FVU is {fvu:.3g}, and {chance_fvu:.3g} when the dimensions are mixed up: it knows hardly anything of "
                "these activations",
            )
        ]
    return []


def _l0(figures: FitFigures, claims: FitClaims) -> list[tuple[str, str]]:
    """Return findings about L0; for top k it can only be too low, since more than k never fire."""
    l0 = figures.l0
    if l0 is None:
        return []
    if claims.l0 is not None and not claims.l0 / L0_FACTOR <= l0 <= claims.l0 * L0_FACTOR:
        return [("l0", f"{l0:.3g} features fire per token, and its files claim {claims.l0:.3g}")]
    if claims.l0 is None and claims.k is not None and l0 < claims.k / L0_FACTOR:
        return [("l0", f"{l0:.3g} features fire per token, of the {claims.k} that its top k may keep")]
    return []


def _better(present: FitFigures, other: Alternative) -> str:
    return (
        f"it fits better {other.what}: FVU {short(other.figures.fvu)} instead of {short(present.fvu)}, L0 "
        f"{short(other.figures.l0)} instead of {short(present.l0)} (on {present.n_tokens:,} tokens); {other.remedy}"
    )
