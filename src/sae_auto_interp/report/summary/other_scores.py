"""Scores that have no balanced accuracy: rankings, forced choices, simulations, and verdicts on firing windows alone.

As for the others: a mean over features, the same with shuffled explanations, and the paired difference, each by its
kind's own headline metric. Verdicts without a single silent window (sensitivity) are read by the share found.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sae_auto_interp.metrics import (
    RunMetric,
    auroc,
    choice_accuracy,
    choice_accuracy_by_quantile,
    choice_chance,
    failure_bounds,
    mean_over_features,
    paired_difference,
    simulation_metrics,
    tpr,
    tpr_by_quantile,
)
from sae_auto_interp.metrics.over_features import defined
from sae_auto_interp.report.summary.failures import count_kinds
from sae_auto_interp.report.summary.values import OtherScores
from sae_auto_interp.report.summary.variants import Variant
from sae_auto_interp.types import Estimate, FeatureId, Score, ScoreKind

_FEW_RESAMPLES = 2
"""Resamples of a feature's own interval, which no mean over features uses."""
Generators = Callable[[str, Variant], np.random.Generator]
"""What the random numbers are for, and for which variant -> a generator of its own."""
Curve = Callable[[Score, float], Mapping[int, Estimate]]


def _no_curve(_: Score, __: float) -> Mapping[int, Estimate]:
    return {}


@dataclass(frozen=True, slots=True)
class _Headline:
    """The metric that a kind of score is read by."""

    name: str
    estimate: Callable[[Score, float], Estimate]
    chance: Callable[[Score], float | None]
    curve: Curve = _no_curve


def _correlation(score: Score, level: float) -> Estimate:
    return simulation_metrics(score, np.random.default_rng(0), level, _FEW_RESAMPLES).ev_correlation


HEADLINES: Mapping[ScoreKind, _Headline] = {
    "ranking": _Headline("AUROC", auroc, lambda _: 0.5),
    "choice": _Headline(
        "accuracy", choice_accuracy, lambda score: choice_chance(score).value, choice_accuracy_by_quantile
    ),
    "simulation": _Headline("correlation", _correlation, lambda _: 0.0),
    "classification": _Headline("found", tpr, lambda _: None, tpr_by_quantile),
}


def is_one_sided(scores: Iterable[Score]) -> bool:
    """Whether no verdict was asked for on a silent window, of any feature, so that accepting all would be perfect."""
    return all(trial.target for score in scores for trial in score.trials)


def own_values(scores: Mapping[FeatureId, Score], level: float) -> dict[FeatureId, Estimate]:
    """The headline metric of each feature; intervals are not to be used."""
    return {feature: HEADLINES[score.kind].estimate(score, level) for feature, score in scores.items()}


def other_scores(
    variant: Variant,
    scores: Mapping[FeatureId, Score],
    controls: Mapping[FeatureId, Score],
    generator: Generators,
    level: float,
    n_resamples: int,
) -> OtherScores:
    """The row of one variant, whose scores are all of one kind; `controls` may be empty."""

    def mean(what: str, estimates: Mapping[FeatureId, Estimate]) -> RunMetric:
        return mean_over_features(estimates, generator(what, variant), level, n_resamples)

    headline = HEADLINES[next(iter(scores.values())).kind]
    own, other = own_values(scores, level), own_values(controls, level)
    n_failed = sum(e.n_failed for e in (*own.values(), *other.values()))
    difference = paired_difference(
        defined(own), defined(other), generator("difference", variant), level, n_resamples, n_failed
    )
    bounds = {f: failure_bounds(score, lambda s: headline.estimate(s, level)) for f, score in scores.items()}
    return OtherScores(
        variant=variant,
        metric=headline.name,
        own=mean("mean", own),
        shuffled=mean("shuffled", other) if other else None,
        difference=difference if other else None,
        chance=_mean([headline.chance(score) for score in scores.values()]),
        n_features=len(own),
        n_trials=sum(len(s.trials) + len(s.choices) + len(s.simulations) for s in scores.values()),
        failed_trials=count_kinds(failure for score in scores.values() for failure in score.failures),
        by_quantile=_mean_curve({f: headline.curve(score, level) for f, score in scores.items()}, mean),
        if_all_wrong=mean("if all wrong", {f: b.if_all_wrong for f, b in bounds.items()}).estimate,
        if_all_right=mean("if all right", {f: b.if_all_right for f, b in bounds.items()}).estimate,
    )


def _mean_curve(
    curves: Mapping[FeatureId, Mapping[int, Estimate]],
    mean: Callable[[str, Mapping[FeatureId, Estimate]], RunMetric],
) -> tuple[tuple[int, RunMetric], ...]:
    quantiles = sorted({quantile for curve in curves.values() for quantile in curve})
    return tuple((q, mean(f"quantile {q}", {f: c[q] for f, c in curves.items() if q in c})) for q in quantiles)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
