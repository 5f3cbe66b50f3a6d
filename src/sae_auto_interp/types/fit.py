"""What the preflight finds out about an autoencoder at its place in a model: figures, other readings that were tried,
and findings. Plain values that cross folders: computed beside torch, judged without it, kept as JSON, shown.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

Severity: TypeAlias = Literal["refused", "allowed", "warning"]
"""`allowed` is what would have been refused, had the user not allowed it by name."""
AlternativeKind: TypeAlias = Literal["place", "reading", "rows"]

OVERRIDABLE: dict[str, str] = {
    "fvu": "it reconstructs worse than the mean vector would (FVU above 1)",
    "chance": "it reconstructs hardly better than activations whose dimensions are mixed up",
    "l0": "it fires on over 3 times more, or fewer, features per token than its files claim",
    "site": "at another place of the model it fits much better",
    "reading": "with its weights read in another way it fits much better",
    "model": "its files name another model than this one",
    "numbers": "activations are NaN, infinite or enormous",
}
"""What is refused, by the name under which `--allow` lets it pass."""
WEIGHTS = "weights"
"""Weights that cannot be read, hold NaN, or have other dimensions than the model: nothing that could be allowed."""

SIGNED = "its codes may be negative, and caches keep what is above zero: of each feature, the positive half alone"
"""Said of signed coders, here and when they are cached."""


@dataclass(frozen=True, slots=True)
class FitFigures:
    """How an autoencoder fits activations x (of an autoencoder) or x -> y (of a transcoder), on text tokens only.

    None where a figure is undefined: there were no usable tokens, or y does not vary.
    """

    n_tokens: int
    """Text tokens that the figures are of."""
    n_unusable_tokens: int
    """Text tokens left out because their activations were NaN, infinite or enormous."""
    width: int
    l0: float | None
    """Features that fire per token, on average."""
    fvu: float | None
    """Fraction of variance unexplained: sum |y - reconstruction|² / sum |y - mean of y|²."""
    cosine: float | None
    """Mean cosine of y and its reconstruction."""
    norm_ratio: float | None
    """Mean of |reconstruction| / |y|."""
    dead_fraction: float | None
    """Features that never fired. On few tokens many that are alive have not fired yet."""
    dense_fraction: float | None
    """Features that fired on more than a tenth of the tokens."""
    mean_norm: float | None
    """Mean norm of x, as the next two are."""
    median_norm: float | None
    max_norm: float | None
    first_norm_ratio: float | None
    """Mean norm at the first position of each row (BOS or not) over the median norm: large for an attention sink."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """The same autoencoder read elsewhere or otherwise, and how that fits."""

    kind: AlternativeKind
    what: str
    """In words that continue "it fits better ..."."""
    remedy: str
    """How to set it."""
    figures: FitFigures


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not fit."""

    code: str
    """A name of OVERRIDABLE or WEIGHTS; for warnings also others."""
    severity: Severity
    message: str


@dataclass(frozen=True, slots=True)
class FitClaims:
    """What the autoencoder's own files say; None where they say nothing."""

    model: str | None
    l0: float | None
    hook: str | None
    ctx_len: int | None
    k: int | None


@dataclass(frozen=True, slots=True)
class Preflight:
    """The check of one autoencoder."""

    module_path: str
    """Where it is attached; of weights that could not be attached, where they lie."""
    autoencoder: str
    """Its family and source."""
    reads: str
    target: str | None
    """Where a transcoder writes."""
    claims: FitClaims | None
    figures: FitFigures | None
    """None, as `claims`, when the weights could not be attached."""
    chance_fvu: float | None
    """FVU on the same activations with their dimensions in reverse order: what a coder of other vectors would reach."""
    alternatives: tuple[Alternative, ...]
    """The best that were tried, best first; on fewer tokens than `figures`."""
    findings: tuple[Finding, ...]

    @property
    def refusals(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "refused")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
