"""What precision, F1, MCC and AUPRC would be in real text, where the feature is rare.

In a test set half of the windows fire; in text perhaps one in a thousand does. With density d (the share of windows
on which the feature fires) and the two rates that a test set measures,

    precision = d TPR / (d TPR + (1 - d) FPR)        e.g. TPR .8, FPR .05, d .001 -> .016

(the positive predictive value at a prevalence; calibrated precision in W. Siblini et al., arXiv 1909.02827). FPR must
be that of windows as they come, so only negatives with source `random` are used: near ones are chosen to be hard.
Positives count as they were drawn; drawn evenly from equal-count quantiles they stand for all active windows.

Intervals: square-and-add (PropImp) of two Clopper-Pearson intervals; the FPR is close to 0, where a bound must hold.
Zero false alarms in 50 windows allow an FPR of up to .07, so for a rare feature the interval is nearly [0, 1]: that is
what 50 negatives know about it. Windows of one document count as one trial for the interval: no bootstrap tells how
rare a false alarm may be of which there was none. The value is then 1, so means over features are too high. The density
itself is taken as known: it comes from every window of the cache.
"""

from collections.abc import Callable

import numpy as np

from sae_auto_interp.errors import InputError
from sae_auto_interp.metrics.bootstrap import Resampling, bootstrap_estimate
from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL, Interval, clopper_pearson, square_and_add
from sae_auto_interp.metrics.judged_trials import NEVER_YES, NO_NEGATIVES, JudgedTrials, judged_trials, ranked_trials
from sae_auto_interp.metrics.over_documents import DOCUMENT_RESAMPLES, by_cluster
from sae_auto_interp.metrics.rates import average_precision_statistic, f1_of_rates, mcc_of_rates, precision_of_rates
from sae_auto_interp.types import Array, Estimate, Score, Trial

_METHOD = "square-and-add (PropImp) of two Clopper-Pearson intervals, at the window density"
_NO_RANKING = "positives and random negatives cannot be ranked at this window density"


def precision_at_density(score: Score, density: float, level: float = DEFAULT_LEVEL) -> Estimate:
    """Share of accepted windows on which the feature fires, in text as it comes; undefined without any yes."""
    return _of_rates(score, precision_of_rates, density, level)


def f1_at_density(score: Score, density: float, level: float = DEFAULT_LEVEL) -> Estimate:
    """Harmonic mean of that precision and TPR."""
    return _of_rates(score, f1_of_rates, density, level)


def mcc_at_density(score: Score, density: float, level: float = DEFAULT_LEVEL) -> Estimate:
    """Matthews correlation of verdict and truth over text as it comes."""
    return _of_rates(score, mcc_of_rates, density, level)


def average_precision_at_density(
    score: Score,
    density: float,
    rng: np.random.Generator,
    level: float = DEFAULT_LEVEL,
    n_resamples: int = DOCUMENT_RESAMPLES,
) -> Estimate:
    """AUPRC with positives weighted to the density; cluster bootstrap over documents.

    A threshold beyond all sampled negatives has precision 1 here, so with few negatives this is optimistic.
    """
    trials = ranked_trials(score, _is_from_text)
    resampling = Resampling(n_units=trials.n_clusters, unit="documents", level=level, n_resamples=n_resamples)
    reason = _why_undefined(trials, density, score) or trials.missing_confidence
    if reason is not None:
        return Estimate(None, None, None, level, resampling.name, trials.n, trials.n_failed, reason)
    statistic = by_cluster(average_precision_statistic(trials.targets, trials.confidences, density), trials.clusters)
    return bootstrap_estimate(statistic, resampling, rng, n=trials.n, n_failed=trials.n_failed, undefined=_NO_RANKING)


def _of_rates(score: Score, combine: Callable[[Array, Array, float], Array], density: float, level: float) -> Estimate:
    trials = judged_trials(score, _is_from_text)
    reason = _why_undefined(trials, density, score)
    if reason is not None:
        return Estimate(None, None, None, level, _METHOD, trials.n, trials.n_failed, reason)
    tpr, tpr_interval = _rate(trials, True, level)
    tnr, tnr_interval = _rate(trials, False, level)
    value = float(combine(np.array([tpr]), np.array([tnr]), density)[0])
    if not np.isfinite(value):
        return Estimate(None, None, None, level, _METHOD, trials.n, trials.n_failed, NEVER_YES)

    def defined(first: Array, second: Array) -> Array:
        return np.nan_to_num(combine(first, second, density))

    interval = square_and_add(defined, tpr, tpr_interval, tnr, tnr_interval)
    return Estimate(value, interval.low, interval.high, level, _METHOD, trials.n, trials.n_failed)


def _rate(trials: JudgedTrials, target: bool, level: float) -> tuple[float, Interval]:
    """Share of right verdicts on one class, with the interval of as many trials as there are documents."""
    members = trials.targets == target
    rate = float((trials.predictions[members] == target).mean())
    n_documents = len(np.unique(trials.clusters[members]))
    return rate, clopper_pearson(rate * n_documents, n_documents, level)


def _is_from_text(trial: Trial) -> bool:
    """Positives, and negatives that were drawn as they come."""
    return trial.target or trial.source == "random"


def _why_undefined(trials: JudgedTrials, density: float, score: Score) -> str | None:
    if not 0 <= density <= 1:
        raise InputError(f"density {density} of {score.feature} is no share; give active windows / windows")
    if not 0 < density < 1:
        return f"at a window density of {density:g} there is nothing to tell apart"
    if trials.missing_class == NO_NEGATIVES and not all(trial.target for trial in score.trials):
        return "no judged negative was drawn at random, and only such ones tell the false alarms in text"
    return trials.missing_class
