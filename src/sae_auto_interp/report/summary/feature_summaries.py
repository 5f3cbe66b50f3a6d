"""Every feature that a run knows anything about, best first: explanations, scores, evidence and failures.

Features are sorted by the mean of detection and fuzzing balanced accuracy of the primary explainer and judge. A
feature that lacks one of the two comes last, since a mean of fewer tests is not comparable. That mean only sorts;
nothing prints it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sae_auto_interp.report.feature_scores import feature_other, feature_score
from sae_auto_interp.report.summary.chosen import tried_of
from sae_auto_interp.report.summary.evidence import FeatureEvidence
from sae_auto_interp.report.summary.failures import failures_by_feature
from sae_auto_interp.report.summary.values import FeatureOther, FeatureScore, FeatureSummary
from sae_auto_interp.report.summary.variants import (
    HEADLINE_SCORERS,
    ScoresByVariant,
    Variant,
    is_control,
    reading_order,
)
from sae_auto_interp.types import Explanation, Failure, FeatureId


@dataclass(frozen=True, slots=True)
class Material:
    """What the results file holds, by feature and variant, controls included."""

    evidence: Mapping[FeatureId, FeatureEvidence]
    verdicts: ScoresByVariant
    others: ScoresByVariant
    """Rankings, choices and simulations."""
    explanations: Sequence[Explanation]
    failures: Sequence[tuple[str, Failure]]
    level: float

    def window_density(self, feature: FeatureId) -> float | None:
        """Share of windows in which the feature fires, where that was counted."""
        evidence = self.evidence.get(feature)
        if evidence is None or evidence.stats.n_windows == 0:
            return None
        return evidence.stats.n_active_windows / evidence.stats.n_windows


def feature_summaries(material: Material, primary: Variant | None) -> tuple[FeatureSummary, ...]:
    """One per feature with a record, an explanation or a score."""
    explained: dict[FeatureId, list[Explanation]] = defaultdict(list)
    for explanation in material.explanations:
        if not is_control(explanation.explainer):
            explained[explanation.feature].append(explanation)
    scored = {feature for scores in (material.verdicts, material.others) for of in scores.values() for feature in of}
    features = sorted(material.evidence.keys() | explained.keys() | scored)
    failed = failures_by_feature(material.failures, features)
    first = primary.explainer if primary else ""
    verdicts, others = _own(material.verdicts), _own(material.others)
    summaries = [
        _summary(
            feature,
            sorted(explained.get(feature, []), key=lambda e: (e.explainer != first, e.explainer)),
            _scores(feature, verdicts, material),
            _others(feature, others, material),
            failed.get(feature, ()),
            material,
            primary,
        )
        for feature in features
    ]
    return tuple(sorted(summaries, key=lambda s: (s.sort_value is None, -(s.sort_value or 0.0), s.feature)))


def _summary(
    feature: FeatureId,
    explanations: Sequence[Explanation],
    scores: tuple[FeatureScore, ...],
    others: tuple[FeatureOther, ...],
    failures: Sequence[Failure],
    material: Material,
    primary: Variant | None,
) -> FeatureSummary:
    return FeatureSummary(
        feature=feature,
        evidence=material.evidence.get(feature),
        explanations=tuple(explanations),
        scores=scores,
        others=others,
        tried=tuple((e.explainer, tried_of(e, material.level)) for e in explanations if e.candidates),
        failures=tuple(failures),
        sort_value=_sort_value(scores, material, primary),
    )


def _own(scores: ScoresByVariant) -> list[Variant]:
    """The variants that are no controls, in reading order."""
    return sorted((v for v in scores if not is_control(v.explainer)), key=reading_order)


def _scores(feature: FeatureId, variants: Sequence[Variant], material: Material) -> tuple[FeatureScore, ...]:
    scores, density = material.verdicts, material.window_density(feature)
    return tuple(
        feature_score(v, scores[v][feature], scores.get(v.control, {}).get(feature), density, material.level)
        for v in variants
        if feature in scores[v]
    )


def _others(feature: FeatureId, variants: Sequence[Variant], material: Material) -> tuple[FeatureOther, ...]:
    scores = material.others
    return tuple(
        feature_other(v, scores[v][feature], scores.get(v.control, {}).get(feature), material.level)
        for v in variants
        if feature in scores[v]
    )


def _sort_value(scores: Sequence[FeatureScore], material: Material, primary: Variant | None) -> float | None:
    """Mean over the primary explainer's headline scorers, or over all where it has neither of them."""
    if primary is None:
        return None
    whom = (primary.explainer, primary.judge)
    own = [v for v in material.verdicts if (v.explainer, v.judge) == whom]
    headline = [v for v in own if v.scorer in HEADLINE_SCORERS] or own
    values = [
        score.balanced_accuracy.value
        for score in scores
        if score.variant in headline and score.balanced_accuracy.value is not None
    ]
    return sum(values) / len(values) if values and len(values) == len(headline) else None
