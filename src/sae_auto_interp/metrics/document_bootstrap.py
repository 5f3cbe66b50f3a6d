"""Any classification metric of one feature with an interval that respects documents.

Windows of one document resemble each other, so their verdicts do. The closed intervals of `classification` take
trials as independent and are too narrow where documents gave several; here whole documents are resampled. With one
window per document both agree. A perfect judge gets no interval here (see `bootstrap`): Wilson's has one.
"""

from typing import Literal, TypeAlias

import numpy as np

from sae_auto_interp.metrics.bootstrap import BootstrapMethod, Resampling, Statistic, bootstrap_estimate
from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL
from sae_auto_interp.metrics.judged_trials import (
    NEVER_YES,
    NO_NEGATIVES,
    NO_POSITIVES,
    JudgedTrials,
    judged_trials,
    ranked_trials,
)
from sae_auto_interp.metrics.rates import balanced_accuracy_of_rates, f1_of_rates, mcc_of_rates, precision_of_rates
from sae_auto_interp.metrics.weighted import auroc_statistic, average_precision_statistic, mean_statistic, of_rates
from sae_auto_interp.types import Array, Estimate, Score

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
