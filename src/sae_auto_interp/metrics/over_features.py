"""From features to a run: means over features, paired differences against a control, and skill.

The feature is the sampling unit: what one wants to know is how another draw of features would score, so all
intervals come from a percentile bootstrap over features (10,000 resamples). Trials of one feature share its
explanation and are no independent evidence about the run; pooling them would give far too narrow intervals.

Results do not depend on the order of the features: values are sorted by feature before any draw.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from sae_auto_interp.metrics.bootstrap import (
    DEFAULT_RESAMPLES,
    BootstrapMethod,
    Resampling,
    bootstrap_estimate,
    bootstrap_mean,
    percentile_interval,
    resampled_means,
)
from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL
from sae_auto_interp.metrics.rates import mean_statistic
from sae_auto_interp.types import Array, Estimate, FeatureId

_METHOD = "percentile bootstrap over features"
_ONE_FEATURE = "one feature gives no interval"


@dataclass(frozen=True, slots=True)
class RunMetric:
    """A mean over features, and what it leaves out."""

    estimate: Estimate
    """`n` counts features with a defined value; `n_failed` counts failed trials over all features."""
    n_undefined: int
    """Features whose value is undefined; they are not in the mean."""
    undefined_reasons: tuple[tuple[str, int], ...]
    """Why they are undefined, with how many, most frequent first."""


def mean_over_features(
    estimates: Mapping[FeatureId, Estimate],
    rng: np.random.Generator,
    level: float = DEFAULT_LEVEL,
    n_resamples: int = DEFAULT_RESAMPLES,
    method: BootstrapMethod = "percentile",
    by_module: bool = False,
) -> RunMetric:
    """Mean of the defined values; undefined features are left out and counted.

    `by_module` resamples within modules: for when the modules were chosen and only the features are a sample.
    """
    values = {feature: e.value for feature, e in estimates.items() if e.value is not None}
    reasons = Counter(e.reason or "undefined" for e in estimates.values() if e.value is None)
    n_failed = sum(e.n_failed for e in estimates.values())
    n_undefined = sum(reasons.values())
    empty = f"none of {len(estimates)} features has a value" if estimates else "no feature was scored"
    features = sorted(values)
    column = _column(values, features)
    if by_module or method != "percentile":
        strata = np.array([feature.module_path for feature in features]) if by_module else None
        resampling = Resampling(
            n_units=len(features), unit="features", strata=strata, level=level, n_resamples=n_resamples, method=method
        )
        estimate = bootstrap_estimate(
            mean_statistic(column), resampling, rng, n=len(features), n_failed=n_failed, undefined=empty
        )
    else:
        estimate = _mean(column, rng, level, n_resamples, n_failed, empty)
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return RunMetric(estimate, n_undefined, tuple(ordered))


def paired_difference(
    matched: Mapping[FeatureId, float],
    other: Mapping[FeatureId, float],
    rng: np.random.Generator,
    level: float = DEFAULT_LEVEL,
    n_resamples: int = DEFAULT_RESAMPLES,
    n_failed: int = 0,
) -> Estimate:
    """Mean of matched - other over the features that both have; `reason` says how many only one has."""
    both = sorted(matched.keys() & other.keys())
    differences = _column(matched, both) - _column(other, both)
    estimate = _mean(differences, rng, level, n_resamples, n_failed, "no feature has both values")
    n_single = len(matched.keys() ^ other.keys())
    note = f"{n_single} features have only one of the two values" if n_single else None
    reason = "; ".join(text for text in (estimate.reason, note) if text) or None
    return Estimate(
        estimate.value, estimate.low, estimate.high, level, f"paired {_METHOD}", len(both), n_failed, reason
    )


def skill(
    matched: Mapping[FeatureId, float],
    shuffled: Mapping[FeatureId, float],
    rng: np.random.Generator,
    level: float = DEFAULT_LEVEL,
    n_resamples: int = DEFAULT_RESAMPLES,
    n_failed: int = 0,
) -> Estimate:
    """(s - s_shuffled) / (1 - s_shuffled) of the two means: 0 for an uninformative explanation, 1 for a perfect one.

    Means are taken over the features that have both values, and resampled together.
    """
    both = sorted(matched.keys() & shuffled.keys())
    columns = np.stack([_column(matched, both), _column(shuffled, both)], axis=1)
    method = f"ratio of means, {_METHOD}"
    if not both:
        return Estimate(None, None, None, level, method, 0, n_failed, "no feature has both values")
    score, control = columns.mean(axis=0)
    if control >= 1.0:
        reason = "the shuffled control is perfect: there is nothing to gain over it"
        return Estimate(None, None, None, level, method, len(both), n_failed, reason)
    value = float((score - control) / (1 - control))
    if len(both) == 1:
        return Estimate(value, None, None, level, method, 1, n_failed, _ONE_FEATURE)
    means = resampled_means(columns, rng, n_resamples)
    if means[:, 1].max() >= 1.0:
        reason = "the shuffled control is perfect in some resamples: no interval"
        return Estimate(value, None, None, level, method, len(both), n_failed, reason)
    interval = percentile_interval((means[:, 0] - means[:, 1]) / (1 - means[:, 1]), level)
    return Estimate(value, interval.low, interval.high, level, method, len(both), n_failed)


def _column(values: Mapping[FeatureId, float], features: list[FeatureId]) -> Float64[Array, " n_features"]:
    return np.array([values[feature] for feature in features], dtype=np.float64)


def _mean(
    values: Float64[Array, " n_features"],
    rng: np.random.Generator,
    level: float,
    n_resamples: int,
    n_failed: int,
    empty: str,
) -> Estimate:
    """Mean with interval; undefined for the reason `empty` without values, without interval for one value."""
    n = len(values)
    if n == 0:
        return Estimate(None, None, None, level, _METHOD, 0, n_failed, empty)
    value = float(values.mean())
    if n == 1:
        return Estimate(value, None, None, level, _METHOD, 1, n_failed, _ONE_FEATURE)
    interval = bootstrap_mean(values, rng, level, n_resamples)
    return Estimate(value, interval.low, interval.high, level, _METHOD, n, n_failed)


def defined(estimates: Mapping[FeatureId, Estimate]) -> dict[FeatureId, float]:
    """The values of the features on which there is one, as `paired_difference` and `skill` take them."""
    return {feature: e.value for feature, e in estimates.items() if e.value is not None}
