"""Two runs on the same features: which is better, by how much, and is it more than luck?

Paired: the features differ far more among themselves than the runs do on one of them, so the difference is taken
feature by feature. How many features that needs: `power`.

Wilcoxon's signed-rank test and its effect size, for one difference per feature.

F. Wilcoxon, Biometrics Bulletin 1 (1945) 80: differences of zero are dropped, equal sizes share their mean rank, and
W is the sum of the ranks of the positive ones. The p-value is that of the test's own null, every sign by a fair coin:
exact, ties included, up to 200 differences; beyond, normal with the exact variance sum(r^2) / 4.

Effect size: the matched-pairs rank-biserial correlation (W+ - W-) / (W+ + W-), from -1 to 1 (D. S. Kerby, Comprehensive
Psychology 3 (2014) 1): 0 where gains and losses balance.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from sae_auto_interp.metrics.bootstrap import (
    DEFAULT_RESAMPLES,
    BootstrapMethod,
    Resampling,
    Statistic,
    bootstrap_estimate,
)
from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL
from sae_auto_interp.metrics.rates import mean_statistic, ratio
from sae_auto_interp.metrics.significance import Significance
from sae_auto_interp.types import Array, Estimate, FeatureId

MAX_EXACT = 200


_TIE = 1e-12
"""Differences of scores that agree to this are equal: .8 - .7 and .9 - .8 differ in their last bits only."""


def signed_rank(differences: Float64[Array, " n"], n_failed: int = 0) -> Significance:
    """Two-sided p-value that the differences are symmetric about 0; 1 where none differs from 0."""
    kept = _rounded(differences)
    kept = kept[kept != 0]
    exact = len(kept) <= MAX_EXACT
    method = f"Wilcoxon signed-rank, {'exact' if exact else 'normal approximation'}"
    if len(differences) == 0:
        return Significance(None, method, 0, n_failed, "there is no pair")
    if len(kept) == 0:
        return Significance(1.0, method, 0, n_failed)
    ranks = _mean_ranks(np.abs(kept))
    w = float(ranks[kept > 0].sum())
    return Significance(_exact(ranks, w) if exact else _normal(ranks, w), method, len(kept), n_failed)


def rank_biserial_statistic(differences: Float64[Array, " n"]) -> Statistic:
    """Weights [k, n] -> rank-biserial correlation [k]; NaN where every difference is 0."""
    values = _rounded(differences)
    order = np.argsort(np.abs(values), kind="stable")
    order = order[values[order] != 0]
    sizes, is_positive = np.abs(values[order]), values[order] > 0
    starts = np.flatnonzero(np.concatenate([[True], sizes[1:] != sizes[:-1]])) if len(sizes) else order

    def statistic(weights: Float64[Array, "k n"]) -> Float64[Array, " k"]:
        if len(order) == 0:
            return np.full(len(weights), np.nan)
        ordered = weights[:, order]
        group = np.add.reduceat(ordered, starts, axis=1)
        ranks = np.cumsum(group, axis=1) - group + (group + 1) / 2
        gained = np.add.reduceat(ordered * is_positive, starts, axis=1)
        return ratio(((2 * gained - group) * ranks).sum(axis=1), (group * ranks).sum(axis=1))

    return statistic


def _rounded(differences: Float64[Array, " n"]) -> Float64[Array, " n"]:
    return np.round(differences / _TIE) * _TIE


def _mean_ranks(sizes: Float64[Array, " n"]) -> Float64[Array, " n"]:
    """Ranks from 1; equal sizes share the mean of theirs."""
    _, inverse, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - counts + (counts + 1) / 2)[inverse]


def _exact(ranks: Float64[Array, " n"], w: float) -> float:
    """By the distribution of W over all 2^n signs, built up rank by rank; doubled ranks are whole numbers."""
    doubled = np.rint(2 * ranks).astype(np.int64)
    probability = np.zeros(int(doubled.sum()) + 1)
    probability[0] = 1.0
    for rank in doubled:
        moved = np.zeros_like(probability)
        moved[rank:] = probability[: len(probability) - rank]
        probability = (probability + moved) / 2
    at = round(2 * w)
    return float(min(1.0, 2 * min(probability[: at + 1].sum(), probability[at:].sum())))


def _normal(ranks: Float64[Array, " n"], w: float) -> float:
    z = (w - ranks.sum() / 2) / math.sqrt(float((ranks**2).sum()) / 4)
    return math.erfc(abs(z) / math.sqrt(2))


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
