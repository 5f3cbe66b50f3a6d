"""Every feature that a run knows anything about, best first: explanations, scores, evidence and failures.

Features are sorted by the mean of detection and fuzzing balanced accuracy of the primary explainer and judge. A
feature that lacks one of the two comes last, since a mean of fewer tests is not comparable. That mean only sorts;
nothing prints it.

One feature's scores under each test: values, intervals over documents, curves, and what the failures could change.

In: the scores of a variant and of its shuffled control. Out: what a feature's row and page show.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sae_auto_interp.metrics import (
    FailureBounds,
    failure_bounds,
    feature_auroc,
    feature_choices,
    feature_rates,
    precision_at_density,
    simulation_metrics,
)
from sae_auto_interp.metrics.over_documents import FEATURE_RESAMPLES
from sae_auto_interp.report.summary.chosen import tried_of
from sae_auto_interp.report.summary.evidence import FeatureEvidence
from sae_auto_interp.report.summary.failures import failures_by_feature
from sae_auto_interp.report.summary.further import WINDOW_SCORERS
from sae_auto_interp.report.summary.other_scores import HEADLINES
from sae_auto_interp.report.summary.values import FeatureOther, FeatureScore, FeatureSummary, QuantileCurve
from sae_auto_interp.report.summary.variants import (
    HEADLINE_SCORERS,
    ScoresByVariant,
    Variant,
    is_control,
    reading_order,
)
from sae_auto_interp.types import Estimate, Explanation, Failure, FeatureId, Score, ScoreKind


@dataclass(frozen=True, slots=True)
class _Read:
    """The metric that a score is read by, and its curve where it has one."""

    own: Estimate
    by_quantile: QuantileCurve = ()


def feature_score(
    variant: Variant, score: Score, shuffled: Score | None, density: float | None, level: float
) -> FeatureScore:
    """Return the score of verdicts. `density` is the share of windows in which the feature fires, None where that was
    not counted."""
    rates = feature_rates(score, level)
    bounds = _bounds(score, rates.balanced_accuracy, lambda settled: feature_rates(settled, level).balanced_accuracy)
    window_density = density if score.scorer in WINDOW_SCORERS else None
    return FeatureScore(
        variant=variant,
        balanced_accuracy=rates.balanced_accuracy,
        tpr=rates.tpr,
        tnr=rates.tnr,
        auroc=feature_auroc(score, level),
        precision_in_text=None if window_density is None else precision_at_density(score, window_density, level),
        tpr_by_quantile=tuple(rates.tpr_by_quantile.items()),
        shuffled=None if shuffled is None else feature_rates(shuffled, level).balanced_accuracy,
        if_all_wrong=bounds.if_all_wrong,
        if_all_right=bounds.if_all_right,
    )


def feature_other(variant: Variant, score: Score, shuffled: Score | None, level: float) -> FeatureOther:
    """Return the result of a ranking, forced choices, simulations, or verdicts on firing windows alone."""
    read = _READERS[score.kind](score, level)
    bounds = _bounds(score, read.own, lambda settled: _READERS[score.kind](settled, level).own)
    return FeatureOther(
        variant=variant,
        metric=HEADLINES[score.kind].name,
        own=read.own,
        shuffled=None if shuffled is None else _READERS[score.kind](shuffled, level).own,
        chance=HEADLINES[score.kind].chance(score),
        by_quantile=read.by_quantile,
        if_all_wrong=bounds.if_all_wrong,
        if_all_right=bounds.if_all_right,
    )


def _bounds(score: Score, own: Estimate, metric: Callable[[Score], Estimate]) -> FailureBounds:
    """What the failures could change: nothing where there are none."""
    return failure_bounds(score, metric) if own.n_failed else FailureBounds(own, own)


def _choices(score: Score, level: float) -> _Read:
    found = feature_choices(score, level)
    return _Read(found.accuracy, tuple(found.by_quantile.items()))


def _found(score: Score, level: float) -> _Read:
    found = feature_rates(score, level)
    return _Read(found.tpr, tuple(found.tpr_by_quantile.items()))


def _simulations(score: Score, level: float) -> _Read:
    return _Read(simulation_metrics(score, np.random.default_rng(0), level, FEATURE_RESAMPLES).ev_correlation)


_READERS: Mapping[ScoreKind, Callable[[Score, float], _Read]] = {
    "ranking": lambda score, level: _Read(feature_auroc(score, level)),
    "choice": _choices,
    "simulation": _simulations,
    "classification": _found,
}


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
