"""Figures, claims and what else was tried -> what does not fit, in words. Pure: the numbers decide, no model is asked.

A message says what was measured, and names as the cause only what explains the activations much better when it is
changed (FVU at most LEAST_GAIN of what it is now, and no lower cosine, on the same tokens). Where nothing that was
tried does, it says so, and what the likely causes are (`preflight_causes`).
"""

from collections.abc import Collection, Sequence

from sae_auto_interp.preflight.causes import BaseModel, short, unexplained
from sae_auto_interp.types.fit import OVERRIDABLE, WEIGHTS, Alternative, Finding, FitClaims, FitFigures, Severity

FVU_LIMIT = 1.0
L0_FACTOR = 3.0
LEAST_GAIN = 2 / 3
"""Another place or reading is the better one when its FVU is at most this part of the present one."""
WORTH_A_WORD = 0.9
"""The same for a warning."""
CODES = {"place": "site", "reading": "reading"}
CHANCE_FRACTION = 0.9
"""Of the FVU on mixed-up activations: above it nothing is known of these."""


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
    better = best_explanation(searched, alternatives, claims, LEAST_GAIN)
    misfits = [code for code, _ in found if code != "numbers"]
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
    """Of a top k only too few can be wrong: more than k never fire."""
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
