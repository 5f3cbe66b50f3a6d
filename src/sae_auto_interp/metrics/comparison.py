"""Two runs on the same features: which is better, by how much, and is it more than luck?

Paired: the features differ far more among themselves than the runs do on one of them, so the difference is taken
feature by feature. How many features that needs: `power`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sae_auto_interp.metrics.bootstrap import (
    DEFAULT_RESAMPLES,
    BootstrapMethod,
    Resampling,
    Statistic,
    bootstrap_estimate,
)
from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL
from sae_auto_interp.metrics.significance import Significance
from sae_auto_interp.metrics.weighted import mean_statistic
from sae_auto_interp.metrics.wilcoxon import rank_biserial_statistic, signed_rank
from sae_auto_interp.types import Estimate, FeatureId


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Everything over the features for which both runs have a defined value; `n_failed` counts trials of both."""

    first: Estimate
    second: Estimate
    difference: Estimate
    """Mean of second - first."""
    effect_size: Estimate
    """Rank-biserial correlation of the differences: -1 all losses, 0 balance, 1 all gains."""
    significance: Significance
    n_only_first: int
    n_only_second: int


def compare_paired(
    first: Mapping[FeatureId, Estimate],
    second: Mapping[FeatureId, Estimate],
    rng: np.random.Generator,
    level: float = DEFAULT_LEVEL,
    n_resamples: int = DEFAULT_RESAMPLES,
    method: BootstrapMethod = "percentile",
    by_module: bool = False,
) -> PairedComparison:
    """Compare two runs' values of one metric; bootstrap over features, Wilcoxon's signed-rank test.

    `by_module` resamples within modules: for when the modules were chosen and only the features are a sample.
    """
    values, others = _defined(first), _defined(second)
    both = sorted(values.keys() & others.keys())
    n_failed = sum(first[feature].n_failed + second[feature].n_failed for feature in both)
    a, b = np.array([values[f] for f in both], dtype=np.float64), np.array([others[f] for f in both], dtype=np.float64)
    resampling = Resampling(
        n_units=len(both),
        unit="features",
        strata=np.array([f.module_path for f in both]) if by_module else None,
        level=level,
        n_resamples=n_resamples,
        method=method,
    )

    def estimate(statistic: Statistic, failed: int, undefined: str = "no feature has both values") -> Estimate:
        return bootstrap_estimate(statistic, resampling, rng, n=len(both), n_failed=failed, undefined=undefined)

    reason = "no feature differs" if both else "no feature has both values"
    return PairedComparison(
        first=estimate(mean_statistic(a), sum(first[f].n_failed for f in both)),
        second=estimate(mean_statistic(b), sum(second[f].n_failed for f in both)),
        difference=estimate(mean_statistic(b - a), n_failed),
        effect_size=estimate(rank_biserial_statistic(b - a), n_failed, reason),
        significance=signed_rank(b - a, n_failed),
        n_only_first=len(values.keys() - others.keys()),
        n_only_second=len(others.keys() - values.keys()),
    )


def _defined(estimates: Mapping[FeatureId, Estimate]) -> dict[FeatureId, float]:
    return {feature: e.value for feature, e in estimates.items() if e.value is not None}
