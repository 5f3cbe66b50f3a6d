"""Scores that have no balanced accuracy: rankings, forced choices and simulations, each by its own headline metric.

As for the others: a mean over features, the same with shuffled explanations, and the paired difference.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sae_auto_interp.metrics import (
    auroc,
    choice_accuracy,
    choice_chance,
    mean_over_features,
    paired_difference,
    simulation_metrics,
)
from sae_auto_interp.report.failures import count_kinds
from sae_auto_interp.report.values import OtherScores, Variant
from sae_auto_interp.types import Estimate, FeatureId, Score, ScoreKind

_FEW_RESAMPLES = 2
"""Of a feature's own interval, which no mean over features uses."""
Generators = Callable[[str, Variant], np.random.Generator]
"""What the random numbers are for, and for which variant -> a generator of its own."""


@dataclass(frozen=True, slots=True)
class _Headline:
    """The metric that a kind of score is read by."""

    name: str
    estimate: Callable[[Score, float], Estimate]
    chance: Callable[[Score], float | None]


def _correlation(score: Score, level: float) -> Estimate:
    return simulation_metrics(score, np.random.default_rng(0), level, _FEW_RESAMPLES).ev_correlation


HEADLINES: Mapping[ScoreKind, _Headline] = {
    "ranking": _Headline("AUROC", auroc, lambda _: 0.5),
    "choice": _Headline("accuracy", choice_accuracy, lambda score: choice_chance(score).value),
    "simulation": _Headline("correlation", _correlation, lambda _: 0.0),
}


def other_scores(
    variant: Variant,
    scores: Mapping[FeatureId, Score],
    controls: Mapping[FeatureId, Score],
    generator: Generators,
    level: float,
    n_resamples: int,
) -> OtherScores:
    """The row of one variant, whose scores are all of one kind; `controls` may be empty."""
    headline = HEADLINES[next(iter(scores.values())).kind]
    own = {feature: headline.estimate(score, level) for feature, score in scores.items()}
    other = {feature: headline.estimate(score, level) for feature, score in controls.items()}
    n_failed = sum(e.n_failed for e in (*own.values(), *other.values()))
    difference = paired_difference(
        _defined(own), _defined(other), generator("difference", variant), level, n_resamples, n_failed
    )
    return OtherScores(
        variant=variant,
        metric=headline.name,
        own=mean_over_features(own, generator("mean", variant), level, n_resamples),
        shuffled=mean_over_features(other, generator("shuffled", variant), level, n_resamples) if other else None,
        difference=difference if other else None,
        chance=_mean([headline.chance(score) for score in scores.values()]),
        n_features=len(own),
        n_trials=sum(len(s.trials) + len(s.choices) + len(s.simulations) for s in scores.values()),
        failed_trials=count_kinds(failure for score in scores.values() for failure in score.failures),
    )


def _defined(estimates: Mapping[FeatureId, Estimate]) -> dict[FeatureId, float]:
    return {feature: e.value for feature, e in estimates.items() if e.value is not None}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
