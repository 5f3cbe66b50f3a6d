"""One feature's scores under each test: values, intervals over documents, curves, and what the failures could change.

In: the scores of a variant and of its shuffled control. Out: what a feature's row and page show.
"""

from collections.abc import Callable, Mapping
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
from sae_auto_interp.report.summary.further import WINDOW_SCORERS
from sae_auto_interp.report.summary.other_scores import HEADLINES
from sae_auto_interp.report.summary.values import FeatureOther, FeatureScore, QuantileCurve
from sae_auto_interp.report.summary.variants import Variant
from sae_auto_interp.types import Estimate, Score, ScoreKind


@dataclass(frozen=True, slots=True)
class _Read:
    """The metric that a score is read by, and its curve where it has one."""

    own: Estimate
    by_quantile: QuantileCurve = ()


def feature_score(
    variant: Variant, score: Score, shuffled: Score | None, density: float | None, level: float
) -> FeatureScore:
    """Of verdicts. `density` is the share of windows in which the feature fires, None where that was not counted."""
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
    """Of a ranking, forced choices, simulations, or verdicts on firing windows alone."""
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
