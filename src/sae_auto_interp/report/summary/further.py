"""The metrics beside balanced accuracy, as means over the features of a variant.

In: a variant's scores and the features' window densities. Out: `FurtherMetrics`. Which metric shows what:
docs/methods/metrics.md.
"""

from collections.abc import Callable, Mapping

import numpy as np

from sae_auto_interp.metrics import (
    RunMetric,
    accuracy,
    auroc,
    average_precision,
    average_precision_at_density,
    discrimination,
    f1,
    f1_at_density,
    failure_bounds,
    mcc,
    mcc_at_density,
    mean_over_features,
    precision,
    precision_at_density,
    tnr_by_source,
    tpr,
    tpr_by_quantile,
)
from sae_auto_interp.report.summary.values import FurtherMetrics
from sae_auto_interp.types import Estimate, FeatureId, Score

FURTHER_RESAMPLES = 2000
"""Enough for intervals that are printed with two digits."""
WINDOW_SCORERS = frozenset({"detection"})
"""Scorers that ask whether the feature fires in a window: only such answers tell precision in text. Fuzzing asks which
tokens of a window are the ones."""
VALUE_ONLY = 2
"""Resamples where only a feature's value is used: the interval is that of the mean over features."""
PUBLISHED_BY_ACCURACY = frozenset({"saebench"})
"""Scorers of protocols whose published figures are plain accuracies; elsewhere it would only mislead."""
Estimates = Mapping[FeatureId, Estimate]
Generators = Callable[[str], np.random.Generator]
"""What the random numbers are for -> a generator of its own."""


def further_metrics(
    scores: Mapping[FeatureId, Score],
    densities: Mapping[FeatureId, float],
    generator: Generators,
    level: float,
    n_resamples: int,
) -> FurtherMetrics:
    """All of them; a metric that no feature has, such as AUROC without confidences, is left out."""

    def mean(name: str, estimates: Estimates) -> RunMetric:
        return mean_over_features(estimates, generator(name), level, n_resamples)

    named = {**_rates(scores, level), **_others(scores, densities, level)}
    means = {name: mean(name, estimates) for name, estimates in named.items()}
    curves = {feature: tpr_by_quantile(score, level) for feature, score in scores.items()}
    quantiles = sorted({quantile for curve in curves.values() for quantile in curve})
    bounds = {feature: failure_bounds(score) for feature, score in scores.items()}
    return FurtherMetrics(
        metrics=tuple((name, found) for name, found in means.items() if found.estimate.value is not None),
        tpr_by_quantile=tuple(
            (quantile, mean(f"quantile {quantile}", {f: c[quantile] for f, c in curves.items() if quantile in c}))
            for quantile in quantiles
        ),
        if_all_wrong=mean("if all wrong", {f: b.if_all_wrong for f, b in bounds.items()}).estimate,
        if_all_right=mean("if all right", {f: b.if_all_right for f, b in bounds.items()}).estimate,
    )


def _rates(scores: Mapping[FeatureId, Score], level: float) -> dict[str, Estimates]:
    """TPR, and TNR by kind of negative."""
    by_source = {feature: tnr_by_source(score, level) for feature, score in scores.items()}
    sources = sorted({source for rates in by_source.values() for source in rates}, key=lambda s: (s != "random", s))
    rejected = {
        f"rejected, {source}": {feature: rates[source] for feature, rates in by_source.items() if source in rates}
        for source in sources
    }
    return {"found": {feature: tpr(score, level) for feature, score in scores.items()}, **rejected}


def _others(
    scores: Mapping[FeatureId, Score], densities: Mapping[FeatureId, float], level: float
) -> dict[str, Estimates]:
    in_text = {f: score for f, score in scores.items() if f in densities and score.scorer in WINDOW_SCORERS}
    return {
        "MCC": {feature: mcc(score, level) for feature, score in scores.items()},
        "precision": {feature: precision(score, level) for feature, score in scores.items()},
        "accuracy": {f: accuracy(score, level) for f, score in scores.items() if score.scorer in PUBLISHED_BY_ACCURACY},
        "discrimination": {feature: discrimination(score, level) for feature, score in scores.items()},
        "F1": {feature: f1(score, level) for feature, score in scores.items()},
        "AUROC": {feature: auroc(score, level) for feature, score in scores.items()},
        "AUPRC": {f: average_precision(s, _unused(), level, VALUE_ONLY) for f, s in scores.items()},
        "precision in text": {f: precision_at_density(score, densities[f], level) for f, score in in_text.items()},
        "F1 in text": {f: f1_at_density(score, densities[f], level) for f, score in in_text.items()},
        "MCC in text": {f: mcc_at_density(score, densities[f], level) for f, score in in_text.items()},
        "AUPRC in text": {
            f: average_precision_at_density(s, densities[f], _unused(), level, VALUE_ONLY) for f, s in in_text.items()
        },
    }


def _unused() -> np.random.Generator:
    """For intervals that nobody looks at."""
    return np.random.default_rng(0)
