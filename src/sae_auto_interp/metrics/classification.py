"""Metrics of one explanation judged as a classifier of windows: trials in, Estimates out.

A positive trial is one whose window really activates the feature (detection) or whose marks are where it
fires (fuzzing); the judge says yes or no. Failed trials are in no metric; they are counted in `n_failed`.

Intervals treat trials as independent. Proportions: Wilson. Balanced accuracy: square-and-add of the two
Wilson intervals, since positives and negatives are separate samples. F1 and MCC: the same for a curved function
of the two rates (PropImp), which keeps them within their range and their coverage near nominal.

Precision, F1 and MCC depend on the share of positives in the test set, which is chosen (usually one half)
and far above the rate at which the feature fires; balanced accuracy does not, and is the headline.

Scores against each kind of negative, and discrimination: is it this feature, or only one like it?

Against random windows an over-broad explanation looks perfect; against windows of the feature's neighbours, on which it
is itself silent, it does not. No further model call: a scorer's trials know where their windows came from.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL, Interval, mover_mean_of_two, square_and_add, wilson
from sae_auto_interp.metrics.judged_trials import (
    NEVER_YES,
    NO_NEGATIVES,
    NO_POSITIVES,
    auroc,
    check_classification,
    judged_trials,
)
from sae_auto_interp.metrics.rates import f1_of_rates, mcc_of_rates
from sae_auto_interp.types import Array, Estimate, ExampleSource, Score, Trial


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of judged trials, and of the failed ones by what they would have been."""

    tp: int
    fn: int
    tn: int
    fp: int
    n_failed_positive: int
    n_failed_negative: int

    @property
    def n_positive(self) -> int:
        return self.tp + self.fn

    @property
    def n_negative(self) -> int:
        return self.tn + self.fp

    @property
    def n(self) -> int:
        return self.n_positive + self.n_negative

    @property
    def n_failed(self) -> int:
        return self.n_failed_positive + self.n_failed_negative

    @property
    def missing_class(self) -> str | None:
        """Why a metric that needs both classes is undefined, if it is."""
        if self.n_positive == 0:
            return NO_POSITIVES
        return NO_NEGATIVES if self.n_negative == 0 else None


@dataclass(frozen=True, slots=True)
class ClassificationMetrics:
    """Everything this module knows about one score."""

    tpr: Estimate
    tnr: Estimate
    balanced_accuracy: Estimate
    precision: Estimate
    recall: Estimate
    f1: Estimate
    mcc: Estimate
    auroc: Estimate


def classification_metrics(score: Score, level: float = DEFAULT_LEVEL) -> ClassificationMetrics:
    """All metrics of one score."""
    return ClassificationMetrics(
        tpr=tpr(score, level),
        tnr=tnr(score, level),
        balanced_accuracy=balanced_accuracy(score, level),
        precision=precision(score, level),
        recall=recall(score, level),
        f1=f1(score, level),
        mcc=mcc(score, level),
        auroc=auroc(score, level),
    )


def confusion(score: Score) -> Confusion:
    """Count the trials of a classification score."""
    check_classification(score)
    return _count(score.trials)


def _count(trials: Iterable[Trial]) -> Confusion:
    cells = {(target, answer): 0 for target in (True, False) for answer in (True, False, None)}
    for trial in trials:
        cells[trial.target, None if trial.failure is not None else trial.prediction] += 1
    return Confusion(
        tp=cells[True, True],
        fn=cells[True, False],
        tn=cells[False, False],
        fp=cells[False, True],
        n_failed_positive=cells[True, None],
        n_failed_negative=cells[False, None],
    )


def tpr(score: Score, level: float = DEFAULT_LEVEL) -> Estimate:
    """Share of positives that the judge accepted; `n` and `n_failed` count positives."""
    return _tpr(confusion(score), level)


recall = tpr


def tnr(score: Score, level: float = DEFAULT_LEVEL) -> Estimate:
    """Share of negatives that the judge rejected; `n` and `n_failed` count negatives."""
    return _tnr(confusion(score), level)


def accuracy(score: Score, level: float = DEFAULT_LEVEL) -> Estimate:
    """Share of right verdicts. Not comparable between tests: a constant verdict has the share of the larger class.

    For protocols that are published by it, such as SAEBench's, where the verdict "none" alone has 10 / 14.
    """
    counts = confusion(score)
    return _proportion(counts.tp + counts.tn, counts.n, counts.n_failed, "no trial was judged", level)


def balanced_accuracy(score: Score, level: float = DEFAULT_LEVEL) -> Estimate:
    """(TPR + TNR) / 2: 0.5 for any judge that ignores the explanation, whatever the share of positives."""
    counts = confusion(score)
    method = "square-and-add of two Wilson intervals"
    if counts.missing_class is not None:
        return _undefined(counts.missing_class, method, counts, level)
    rates = _class_rates(counts, level)
    return _estimate((rates[0] + rates[2]) / 2, mover_mean_of_two(*rates), method, counts, level)


def precision(score: Score, level: float = DEFAULT_LEVEL) -> Estimate:
    """Share of the judge's yes that was right, at the test set's share of positives."""
    counts = confusion(score)
    n_yes = counts.tp + counts.fp
    reason = counts.missing_class or NEVER_YES
    n_used = 0 if counts.missing_class else n_yes
    return _proportion(counts.tp, n_used, counts.n_failed, reason, level)


def f1(score: Score, level: float = DEFAULT_LEVEL) -> Estimate:
    """Harmonic mean of precision and recall, at the test set's share of positives."""
    return _of_both_rates(score, f1_of_rates, level)


def mcc(score: Score, level: float = DEFAULT_LEVEL) -> Estimate:
    """Matthews correlation of verdict and truth, at the test set's share of positives.

    A judge that gives one verdict throughout has MCC 0, the limit (Chicco and Jurman, BMC Genomics 21 (2020) 6):
    leaving such features out would drop the worst ones from a mean.
    """
    return _of_both_rates(score, mcc_of_rates, level)


def tpr_by_quantile(score: Score, level: float = DEFAULT_LEVEL) -> dict[int, Estimate]:
    """TPR of the positives of each activation quantile; 0 is the quantile of the strongest windows."""
    quantiles = sorted({t.quantile for t in score.trials if t.target and t.quantile is not None})
    return {q: _tpr(_count(t for t in score.trials if t.target and t.quantile == q), level) for q in quantiles}


def tnr_by_source(score: Score, level: float = DEFAULT_LEVEL) -> dict[ExampleSource, Estimate]:
    """TNR of the negatives of each kind, e.g. random and neighbour; kinds that were not asked about are absent.

    An over-broad explanation keeps its TNR on random windows and loses it on near ones.
    """
    sources: list[ExampleSource] = sorted({t.source for t in score.trials if not t.target})
    return {s: _tnr(_count(t for t in score.trials if not t.target and t.source == s), level) for s in sources}


def _tnr(counts: Confusion, level: float) -> Estimate:
    return _proportion(counts.tn, counts.n_negative, counts.n_failed_negative, NO_NEGATIVES, level)


def _tpr(counts: Confusion, level: float) -> Estimate:
    return _proportion(counts.tp, counts.n_positive, counts.n_failed_positive, NO_POSITIVES, level)


def _proportion(successes: int, n: int, n_failed: int, reason: str, level: float) -> Estimate:
    """A Wilson estimate, or an undefined one for `reason` when n is 0."""
    if n == 0:
        return Estimate(None, None, None, level, "Wilson", 0, n_failed, reason)
    interval = wilson(successes, n, level)
    return Estimate(successes / n, interval.low, interval.high, level, "Wilson", n, n_failed)


def _class_rates(counts: Confusion, level: float) -> tuple[float, Interval, float, Interval]:
    """TPR, its interval, TNR, its interval; both classes must be present."""
    return (
        counts.tp / counts.n_positive,
        wilson(counts.tp, counts.n_positive, level),
        counts.tn / counts.n_negative,
        wilson(counts.tn, counts.n_negative, level),
    )


def _of_both_rates(score: Score, combine: Callable[[Array, Array, float], Array], level: float) -> Estimate:
    """A metric that is a function of TPR, TNR and the share of positives, increasing in both rates."""
    counts = confusion(score)
    method = "square-and-add (PropImp) of two Wilson intervals"
    if counts.missing_class is not None:
        return _undefined(counts.missing_class, method, counts, level)
    share = counts.n_positive / counts.n
    rates = _class_rates(counts, level)
    value = float(combine(np.array([rates[0]]), np.array([rates[2]]), share)[0])
    interval = square_and_add(lambda first, second: combine(first, second, share), *rates)
    return _estimate(value, interval, method, counts, level)


def _estimate(value: float, interval: Interval, method: str, counts: Confusion, level: float) -> Estimate:
    return Estimate(value, interval.low, interval.high, level, method, counts.n, counts.n_failed)


def _undefined(reason: str, method: str, counts: Confusion, level: float) -> Estimate:
    return Estimate(None, None, None, level, method, counts.n, counts.n_failed, reason)


NEIGHBOURS: tuple[ExampleSource, ...] = ("neighbour",)


def balanced_accuracy_by_source(score: Score, level: float = DEFAULT_LEVEL) -> dict[ExampleSource, Estimate]:
    """(TPR + TNR) / 2 with the negatives of one kind at a time; chance is 0.5 for each."""
    check_classification(score)
    sources: list[ExampleSource] = sorted({t.source for t in score.trials if not t.target})
    return {source: balanced_accuracy(_against(score, (source,)), level) for source in sources}


def discrimination(
    score: Score, level: float = DEFAULT_LEVEL, sources: Iterable[ExampleSource] = NEIGHBOURS
) -> Estimate:
    """P(an activating window fits the explanation better than a neighbour's window), a tie counting one half.

    Over all pairs of an activating window and one of a neighbour on which this feature is silent: .5 where two features
    share one explanation. By the judge's probabilities where every trial has one; verdicts are tied with each other, so
    that by them this is the balanced accuracy against neighbours. After arXiv 2605.12874.
    """
    against = _against(score, tuple(sources))
    has_probabilities = judged_trials(against).missing_confidence is None
    return auroc(against, level) if has_probabilities else balanced_accuracy(against, level)


def _against(score: Score, sources: tuple[ExampleSource, ...]) -> Score:
    return replace(score, trials=tuple(t for t in score.trials if t.target or t.source in sources))
