"""Do judges agree on the same windows, do explanations of one feature, and do tests agree on the same features?

In: the scores of a run. Out: one row per pair. Verdicts on the same questions are compared window by window: Cohen's
kappa, with the share of equal verdicts beside it, over the windows of all features, with intervals over features. Two
tests put different questions, so they are compared feature by feature: Pearson's correlation of their scores, over
the features that both have; noise lowers it (docs/methods/metrics.md).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias

import numpy as np

from sae_auto_interp.metrics import cohen_kappa, equal_share, feature_correlation, same_questions
from sae_auto_interp.report.summary.variants import ScoresByVariant, Variant
from sae_auto_interp.types import Estimate, FeatureId, Score

Differs: TypeAlias = Literal["judge", "explainer", "test"]
Generator = Callable[[str], np.random.Generator]
"""What the random numbers are for -> a generator of its own."""
NOT_THE_SAME = "the two did not ask the same questions in the same order"


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two variants that differ in one thing."""

    differs: Differs
    first: Variant
    second: Variant
    agreement: Estimate
    """Kappa of judges and explainers, `n` counting windows; of tests the correlation, `n` counting features."""
    equal: Estimate | None
    """Share of equal verdicts; None for tests."""
    n_features: int
    """That both have."""


def judge_agreements(
    scores: ScoresByVariant, generator: Generator, level: float, n_resamples: int
) -> tuple[Agreement, ...]:
    """Return the agreement of every two judges of the same explanations, and of every two explainers with one judge."""
    pairs = combinations(sorted(v for v in scores if not v.is_hidden), 2)
    found: list[Agreement] = []
    for first, second in pairs:
        differs = _difference(first, second)
        if differs in ("judge", "explainer"):
            found.append(_of_verdicts(differs, first, second, scores, generator, level, n_resamples))
    return tuple(sorted(found, key=lambda row: (row.differs != "judge", row.first, row.second)))


def scorer_agreements(
    values: Mapping[Variant, Mapping[FeatureId, Estimate]], generator: Generator, level: float, n_resamples: int
) -> tuple[Agreement, ...]:
    """Return the agreement of every two tests of the same explanations by the same judge."""
    pairs = combinations(sorted(v for v in values if not v.is_hidden), 2)
    return tuple(
        _of_features(first, second, values, generator, level, n_resamples)
        for first, second in pairs
        if _difference(first, second) == "test"
    )


def _difference(first: Variant, second: Variant) -> Differs | None:
    """The one thing in which they differ; None where it is more than one."""
    differs: list[Differs] = []
    if first.judge != second.judge:
        differs.append("judge")
    if first.explainer != second.explainer:
        differs.append("explainer")
    if first.scorer != second.scorer:
        differs.append("test")
    return differs[0] if len(differs) == 1 else None


def _of_verdicts(
    differs: Differs,
    first: Variant,
    second: Variant,
    scores: ScoresByVariant,
    generator: Generator,
    level: float,
    n_resamples: int,
) -> Agreement:
    both = sorted(scores[first].keys() & scores[second].keys())
    same = [f for f in both if same_questions(scores[first][f], scores[second][f])]
    own, others = _verdicts(scores[first], same), _verdicts(scores[second], same)
    clusters = [i for i, feature in enumerate(same) for _ in scores[first][feature].trials]
    label = f"{first} {second}"
    kappa = cohen_kappa(own, others, clusters, generator(f"kappa {label}"), level, n_resamples, unit="features")
    equal = equal_share(own, others, clusters, generator(f"equal {label}"), level, n_resamples, unit="features")
    if both and not same:
        nothing = Estimate(None, None, None, level, kappa.method, 0, 0, NOT_THE_SAME)
        return Agreement(differs, first, second, nothing, nothing, 0)
    return Agreement(differs, first, second, kappa, equal, len(same))


def _verdicts(scores: Mapping[FeatureId, Score], features: Sequence[FeatureId]) -> list[bool | None]:
    return [trial.prediction for feature in features for trial in scores[feature].trials]


def _of_features(
    first: Variant,
    second: Variant,
    values: Mapping[Variant, Mapping[FeatureId, Estimate]],
    generator: Generator,
    level: float,
    n_resamples: int,
) -> Agreement:
    a, b = values[first], values[second]
    both = sorted(f for f in a.keys() & b.keys() if a[f].value is not None and b[f].value is not None)
    found = feature_correlation(
        np.array([a[f].value for f in both], dtype=np.float64),
        np.array([b[f].value for f in both], dtype=np.float64),
        generator(f"correlation {first} {second}"),
        level,
        n_resamples,
        n_failed=sum(each[f].n_failed for each in (a, b) for f in both),
    )
    return Agreement("test", first, second, found, None, len(both))
