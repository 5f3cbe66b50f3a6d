"""One feature's own score, curve and rates, with intervals over documents: what pages and files show of a feature.

In: a score. Out: Estimates. Windows of one document share topic and style, so documents are what is resampled
(percentile bootstrap; A. C. Davison and D. V. Hinkley, Bootstrap Methods, 1997, section 3.8). Where that gives no
interval (one document, a perfect judge, a class that many resamples lack) the closed interval stands in, with as many
trials as there are documents: windows that agree throughout may be copies of each other, and nothing shows that they
are not. `method` says which it is. `by_document` is the same bootstrap for one metric at a time, without that.

A report has tens of thousands of such intervals, so all scores with equally many documents share one table of
draws. Each interval is as good as with draws of its own; only their errors of simulation go together.

Any classification metric of one feature with an interval that respects documents.

Windows of one document resemble each other, so their verdicts do. The closed intervals of `classification` take
trials as independent and are too narrow where documents gave several; here whole documents are resampled. With one
window per document both agree. A perfect judge gets no interval here (see `bootstrap`): Wilson's has one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Int64

from sae_auto_interp.metrics.bootstrap import (
    MAX_UNDEFINED_FRACTION,
    BootstrapMethod,
    Resampling,
    Statistic,
    bootstrap_estimate,
    percentile_interval,
)
from sae_auto_interp.metrics.choice import check_choice
from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL, Interval, mover_mean_of_two, wilson
from sae_auto_interp.metrics.judged_trials import (
    NEVER_YES,
    NO_NEGATIVES,
    NO_POSITIVES,
    JudgedTrials,
    check_classification,
    clusters_of,
    judged_trials,
    mann_whitney,
    newcombe_interval,
    ranked_trials,
)
from sae_auto_interp.metrics.rates import (
    auroc_statistic,
    average_precision_statistic,
    balanced_accuracy_of_rates,
    f1_of_rates,
    mcc_of_rates,
    mean_statistic,
    of_rates,
    precision_of_rates,
    ratio,
)
from sae_auto_interp.types import Array, ChoiceTrial, Estimate, Score

FEATURE_RESAMPLES = 1000
"""Enough for two digits."""


BOOTSTRAP = "percentile bootstrap over documents"


CLOSED = "one trial per document"


NO_CHOICE = "no choice was made"


_NO_SPREAD = 1e-12


@dataclass(frozen=True, slots=True)
class FeatureRates:
    """What verdicts on one feature's windows come to."""

    balanced_accuracy: Estimate
    tpr: Estimate
    tnr: Estimate
    tpr_by_quantile: Mapping[int, Estimate]
    """0 is the quantile of the strongest windows."""


@dataclass(frozen=True, slots=True)
class ChoiceRates:
    """What one feature's forced choices come to."""

    accuracy: Estimate
    by_quantile: Mapping[int, Estimate]


@dataclass(frozen=True, slots=True)
class _Share:
    """A share of trials: its value, its interval, and its value in each resample (NaN where there is none)."""

    value: float
    interval: Interval
    is_bootstrap: bool
    draws: Float64[Array, " n_resamples"]


def feature_rates(score: Score, level: float = DEFAULT_LEVEL) -> FeatureRates:
    """Balanced accuracy, TPR, TNR and the decile curve of a classification score; raises InputError for others."""
    check_classification(score)
    judged = [t for t in score.trials if t.failure is None and t.prediction is not None]
    quantiles = sorted({t.quantile for t in score.trials if t.target and t.quantile is not None})
    is_positive = np.array([t.target for t in judged], dtype=np.bool_)
    of_quantile = np.array([-1 if t.quantile is None else t.quantile for t in judged], dtype=np.int64)
    groups = [is_positive, ~is_positive, *(is_positive & (of_quantile == q) for q in quantiles)]
    is_right = np.array([t.prediction == t.target for t in judged], dtype=np.bool_)
    tpr, tnr, *curve = _shares(is_right, groups, clusters_of([t.document for t in judged]), level)
    failed = [t for t in score.trials if t.failure is not None or t.prediction is None]
    n_failed = [sum(t.target for t in failed), sum(not t.target for t in failed)]
    n_failed += [sum(t.target and t.quantile == q for t in failed) for q in quantiles]
    return FeatureRates(
        balanced_accuracy=_mean_of_two(tpr, tnr, len(judged), len(failed), level),
        tpr=_estimate(tpr, int(groups[0].sum()), n_failed[0], level, NO_POSITIVES),
        tnr=_estimate(tnr, int(groups[1].sum()), n_failed[1], level, NO_NEGATIVES),
        tpr_by_quantile={
            q: _estimate(share, int(members.sum()), n, level, NO_POSITIVES)
            for q, share, members, n in zip(quantiles, curve, groups[2:], n_failed[2:], strict=True)
        },
    )


def feature_choices(score: Score, level: float = DEFAULT_LEVEL) -> ChoiceRates:
    """Share of right choices, over all and by quantile; raises InputError for a score of another kind."""
    trials = check_choice(score)
    quantiles = sorted({t.quantile for t in trials if t.quantile is not None})
    made = [t for t in trials if t.chosen is not None]
    groups = [np.ones(len(made), dtype=np.bool_)]
    groups += [np.array([t.quantile == q for t in made], dtype=np.bool_) for q in quantiles]
    is_right = np.array([t.chosen == t.target for t in made], dtype=np.bool_)
    whole, *curve = _shares(is_right, groups, clusters_of([t.document for t in made]), level)
    return ChoiceRates(
        _estimate(whole, len(made), len(trials) - len(made), level, NO_CHOICE),
        {
            q: _estimate(share, int(members.sum()), _n_unmade(trials, q), level, NO_CHOICE)
            for q, share, members in zip(quantiles, curve, groups[1:], strict=True)
        },
    )


def feature_auroc(score: Score, level: float = DEFAULT_LEVEL) -> Estimate:
    """AUROC of verdicts with confidences, or of a ranking."""
    trials = ranked_trials(score)
    reason = trials.missing_class or trials.missing_confidence
    if reason is not None:
        return Estimate(None, None, None, level, BOOTSTRAP, trials.n, trials.n_failed, reason)
    positive, negative = trials.confidences[trials.targets], trials.confidences[~trials.targets]
    area = mann_whitney(positive, negative)
    weights = document_draws(trials.n_clusters)[:, trials.clusters]
    interval = _bootstrapped(auroc_statistic(trials.targets, trials.confidences)(weights), level)
    method = BOOTSTRAP
    if interval is None:
        interval = newcombe_interval(area, _n_documents(trials, True), _n_documents(trials, False), level)
        method = f"Newcombe, {CLOSED}"
    return Estimate(area, interval.low, interval.high, level, method, trials.n, trials.n_failed)


@lru_cache(maxsize=64)
def document_draws(n_documents: int, n_resamples: int = FEATURE_RESAMPLES) -> Float64[Array, "n_resamples n_documents"]:
    """How often each document is drawn in each resample; the same for the same number of documents, read only."""
    rng = np.random.default_rng([n_documents, n_resamples])
    rows = rng.integers(0, max(n_documents, 1), size=(n_resamples, n_documents), dtype=np.int64)
    flat = (rows + n_documents * np.arange(n_resamples)[:, None]).ravel()
    counts = np.bincount(flat, minlength=n_resamples * n_documents)
    draws = counts.reshape(n_resamples, n_documents).astype(np.float64)
    draws.flags.writeable = False
    return draws


def _shares(
    is_right: Bool[Array, " n"], groups: Sequence[Bool[Array, " n"]], clusters: Int64[Array, " n"], level: float
) -> list[_Share | None]:
    """The share of right ones within each group of trials; None for an empty group."""
    n_documents = int(clusters.max()) + 1 if len(clusters) else 0
    members = np.stack(groups, axis=1).astype(np.float64)
    inside, right = np.zeros((n_documents, len(groups))), np.zeros((n_documents, len(groups)))
    np.add.at(inside, clusters, members)
    np.add.at(right, clusters, members * is_right[:, None])
    draws = document_draws(n_documents)
    resampled = ratio(draws @ right, draws @ inside)
    intervals = _intervals(resampled, level)
    return [
        _share(inside[:, k], right[:, k], resampled[:, k], intervals[k], level) if members[:, k].any() else None
        for k in range(len(groups))
    ]


def _share(
    inside: Float64[Array, " n_documents"],
    right: Float64[Array, " n_documents"],
    resampled: Float64[Array, " n_resamples"],
    interval: Interval | None,
    level: float,
) -> _Share:
    value = float(right.sum() / inside.sum())
    n_documents = int((inside > 0).sum())
    closed = wilson(value * n_documents, n_documents, level)
    return _Share(value, interval or closed, interval is not None, resampled)


def _intervals(draws: Float64[Array, "n_resamples k"], level: float) -> list[Interval | None]:
    """Percentile intervals; None where too many resamples are undefined, or all the others are equal."""
    is_whole: Bool[Array, " k"] = np.asarray(np.isfinite(draws).all(axis=0))
    lows, highs = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    spread = np.ptp(draws, axis=0)
    return [
        (Interval(float(lows[k]), float(highs[k])) if spread[k] > _NO_SPREAD else None)
        if is_whole[k]
        else _bootstrapped(draws[:, k], level)
        for k in range(draws.shape[1])
    ]


def _bootstrapped(draws: Float64[Array, " n_resamples"], level: float) -> Interval | None:
    """`_intervals` of one column, which may have undefined resamples."""
    defined = draws[np.isfinite(draws)]
    if len(draws) - len(defined) > MAX_UNDEFINED_FRACTION * len(draws) or not len(defined):
        return None
    return None if np.ptp(defined) <= _NO_SPREAD else percentile_interval(defined, level)


def _estimate(share: _Share | None, n: int, n_failed: int, level: float, empty: str) -> Estimate:
    if share is None:
        return Estimate(None, None, None, level, BOOTSTRAP, n, n_failed, empty)
    method = BOOTSTRAP if share.is_bootstrap else f"Wilson, {CLOSED}"
    return Estimate(share.value, share.interval.low, share.interval.high, level, method, n, n_failed)


def _mean_of_two(tpr: _Share | None, tnr: _Share | None, n: int, n_failed: int, level: float) -> Estimate:
    if tpr is None or tnr is None:
        reason = NO_POSITIVES if tpr is None else NO_NEGATIVES
        return Estimate(None, None, None, level, BOOTSTRAP, n, n_failed, reason)
    value = (tpr.value + tnr.value) / 2
    has_spread = tpr.is_bootstrap and tnr.is_bootstrap  # else the resamples know nothing of one half of the mean
    interval = _bootstrapped((tpr.draws + tnr.draws) / 2, level) if has_spread else None
    method = BOOTSTRAP
    if interval is None:
        interval = mover_mean_of_two(tpr.value, tpr.interval, tnr.value, tnr.interval)
        method = f"square-and-add, {CLOSED}"
    return Estimate(value, interval.low, interval.high, level, method, n, n_failed)


def _n_documents(trials: JudgedTrials, target: bool) -> int:
    return len(np.unique(trials.clusters[trials.targets == target]))


def _n_unmade(trials: Sequence[ChoiceTrial], quantile: int) -> int:
    return sum(t.quantile == quantile and t.chosen is None for t in trials)


Metric: TypeAlias = Literal[
    "tpr", "tnr", "balanced_accuracy", "precision", "recall", "f1", "mcc", "auroc", "average_precision"
]


DOCUMENT_RESAMPLES = 2000


_OF_RATES = {
    "balanced_accuracy": balanced_accuracy_of_rates,
    "precision": precision_of_rates,
    "f1": f1_of_rates,
    "mcc": mcc_of_rates,
}


_OWN_CLASS = {"tpr": True, "recall": True, "tnr": False}


_OF_CONFIDENCES = {"auroc": auroc_statistic, "average_precision": average_precision_statistic}


def by_document(
    score: Score,
    metric: Metric,
    rng: np.random.Generator,
    level: float = DEFAULT_LEVEL,
    n_resamples: int = DOCUMENT_RESAMPLES,
    method: BootstrapMethod = "percentile",
) -> Estimate:
    """The metric with a cluster-bootstrap interval over documents; for TPR and TNR only their own class counts."""
    own = _OWN_CLASS.get(metric)
    take = ranked_trials if metric in _OF_CONFIDENCES else judged_trials
    trials = take(score, None if own is None else lambda trial: trial.target == own)
    resampling = Resampling(
        n_units=trials.n_clusters, unit="documents", level=level, n_resamples=n_resamples, method=method
    )
    reason = _why_undefined(trials, metric)
    if reason is not None:
        return Estimate(None, None, None, level, resampling.name, trials.n, trials.n_failed, reason)
    statistic = by_cluster(_statistic(trials, metric), trials.clusters)
    return bootstrap_estimate(statistic, resampling, rng, n=trials.n, n_failed=trials.n_failed, undefined=NEVER_YES)


def average_precision(
    score: Score, rng: np.random.Generator, level: float = DEFAULT_LEVEL, n_resamples: int = DOCUMENT_RESAMPLES
) -> Estimate:
    """Area under the precision-recall curve, as a sum over thresholds; chance is the share of positives."""
    return by_document(score, "average_precision", rng, level, n_resamples)


def by_cluster(statistic: Statistic, clusters: Array) -> Statistic:
    """A statistic of trials as one of clusters: a trial weighs what its cluster weighs."""
    return lambda weights: statistic(weights[:, clusters])


def _why_undefined(trials: JudgedTrials, metric: Metric) -> str | None:
    if metric in _OWN_CLASS:
        return None if trials.n else NO_POSITIVES if _OWN_CLASS[metric] else NO_NEGATIVES
    return trials.missing_class or (trials.missing_confidence if metric in _OF_CONFIDENCES else None)


def _statistic(trials: JudgedTrials, metric: Metric) -> Statistic:
    if metric in _OWN_CLASS:
        return mean_statistic((trials.predictions == trials.targets).astype(np.float64))
    if metric in _OF_CONFIDENCES:
        return _OF_CONFIDENCES[metric](trials.targets, trials.confidences)
    return of_rates(_OF_RATES[metric], trials.targets, trials.predictions)
