"""What a metric would be if every failed trial had been wrong, or right: how much the failures could matter.

Failed trials are in no metric, which is fair only if a failure says nothing about the answer. These bounds need no
such assumption (C. F. Manski, Identification for Prediction and Decision, 2007, chapter 2). Narrow bounds: the
failures do not matter. Wide ones: mend the failures before believing the metric.

Wrong and right, by kind: the other verdict, or the true one; the wrong choice, or the right one; in a ranking below
every negative or above every positive, or the reverse; in a simulation the predictions of `extreme_simulations`.

The predictions that failed windows could have had, at the two extremes of the correlation.

In: a simulation score with failed windows. Out: the score with predictions in their place, one per token, that make
the pooled correlation as low, or as high, as any predictions between the ends of the scale can.

The scale: from 0, or the lowest prediction below it, to the largest prediction or true activation of the score. That is
what the judge's levels 0 to 10 come to: a score holds activations, not levels. The extreme: exchanging two predictions
p_i > p_j with y_i > y_j lowers the sum of y p and leaves the spread of p, so the worst predictions fall with the truth.
Where the correlation stays positive they lie at the ends of the scale (a positive linear function over a
norm is quasi-concave): a step, found by trying each. Where it gets negative a stationary p is a clipped line,

    p_t = clip(mean p + (var p / cov(y, p)) (y_t - mean y))

reached by iterating from the step. The best predictions are the worst ones for -y. C. F. Manski (2007), chapter 2,
for the bounds; a random search over predictions finds nothing beyond them (tests/metrics/test_sensitivity.py).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from sae_auto_interp.metrics.choice import choice_accuracy
from sae_auto_interp.metrics.classification import balanced_accuracy
from sae_auto_interp.metrics.judged_trials import auroc
from sae_auto_interp.metrics.rates import ratio
from sae_auto_interp.metrics.simulation import simulation_metrics
from sae_auto_interp.types import Array, ChoiceTrial, Estimate, Score, ScoreKind, SimulationTrial, Trial

_MAX_STEPS = 200


def with_extreme_predictions(score: Score, *, is_right: bool) -> Score:
    """`score` with no failed window left: predicted as badly as possible, or as well."""
    failed = [_has_failed(trial) for trial in score.simulations]
    if not any(failed):
        return score
    known = [trial for trial in score.simulations if not _has_failed(trial)]
    own_true = _joined([trial.true for trial in known])
    own_predicted = _joined([trial.predicted or () for trial in known])
    free_true = _joined([t.true for t, is_free in zip(score.simulations, failed, strict=True) if is_free])
    low = min(0.0, own_predicted.min(initial=0.0))
    high = max(own_predicted.max(initial=0.0), own_true.max(initial=0.0), free_true.max(initial=0.0))
    sign = -1.0 if is_right else 1.0
    worst = worst_predictions(sign * own_true, own_predicted, sign * free_true, low, high)
    return replace(score, simulations=tuple(_settled_simulations(score.simulations, iter(worst.tolist()))))


def worst_predictions(
    true: Float64[Array, " n"],
    predicted: Float64[Array, " n"],
    free_true: Float64[Array, " m"],
    low: float,
    high: float,
) -> Float64[Array, " m"]:
    """Predictions within [low, high] for `free_true` that make the correlation over all n + m tokens least."""
    y = np.concatenate([true, free_true])
    best = _step(true, predicted, free_true, low, high)
    p = np.concatenate([predicted, best])
    lowest = _pearson(y, p)
    for _ in range(_MAX_STEPS):
        if not lowest < 0:
            break
        slope = p.var() / ((y - y.mean()) * (p - p.mean())).mean()
        tried = np.clip(p.mean() + slope * (free_true - y.mean()), low, high)
        p = np.concatenate([predicted, tried])
        found = _pearson(y, p)
        if not found < lowest - 1e-12:
            break
        best, lowest = tried, found
    return best


def _step(
    true: Float64[Array, " n"],
    predicted: Float64[Array, " n"],
    free_true: Float64[Array, " m"],
    low: float,
    high: float,
) -> Float64[Array, " m"]:
    """`low` for the k largest truths and `high` for the others, with the k of the least correlation."""
    order = np.argsort(-free_true, kind="stable")
    y_mean = np.concatenate([true, free_true]).mean()
    n, m = len(true) + len(free_true), len(free_true)
    k = np.arange(m + 1)
    reached = np.concatenate([[0.0], np.cumsum(free_true[order] - y_mean)])
    covariance = ((true - y_mean) * predicted).sum() + low * reached + high * (reached[-1] - reached)
    total = predicted.sum() + low * k + high * (m - k)
    squares = (predicted**2).sum() + low**2 * k + high**2 * (m - k)
    spread = squares - total**2 / n
    is_defined = spread > 1e-12 * np.maximum(squares, 1e-300)
    values = np.where(is_defined, ratio(covariance, np.sqrt(np.where(is_defined, spread, 0.0))), np.inf)
    chosen = np.full(m, high)
    chosen[order[: int(values.argmin())]] = low
    return chosen


def _pearson(y: Float64[Array, " n"], p: Float64[Array, " n"]) -> float:
    """Infinite where one of the two is constant: never the least."""
    spread = y.std() * p.std()
    return float(((y - y.mean()) * (p - p.mean())).mean() / spread) if spread > 1e-12 else np.inf


def _settled_simulations(trials: tuple[SimulationTrial, ...], values: Iterator[float]) -> Iterator[SimulationTrial]:
    for trial in trials:
        if _has_failed(trial):
            yield replace(trial, predicted=tuple(next(values) for _ in trial.true), failure=None)
        else:
            yield trial


def _has_failed(trial: SimulationTrial) -> bool:
    return trial.failure is not None or trial.predicted is None


def _joined(windows: list[tuple[float, ...]]) -> Float64[Array, " n_tokens"]:
    return np.array([value for window in windows for value in window], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class FailureBounds:
    """A metric at the two extremes; in both, every trial counts and `n_failed` is 0."""

    if_all_wrong: Estimate
    if_all_right: Estimate


def failure_bounds(score: Score, metric: Callable[[Score], Estimate] | None = None) -> FailureBounds:
    """Bounds of a metric over what failed; without `metric`, of the one that the kind of score is read by.

    Verdicts: balanced accuracy, or tpr, tnr, precision, f1, mcc. Rankings: AUROC. Choices: accuracy. Simulations: the
    correlation. Each grows with every right answer, so no other outcome of the failures gives more or less. A feature
    whose every trial failed is bounded by 0 and 1 (MCC and correlation: -1 and 1). For the bounds of a run, take the
    mean of each over features.
    """
    of = metric or _READ_BY[score.kind]
    return FailureBounds(of(_settled(score, is_right=False)), of(_settled(score, is_right=True)))


def _correlation(score: Score) -> Estimate:
    return simulation_metrics(score, np.random.default_rng(0)).ev_correlation


_READ_BY: dict[ScoreKind, Callable[[Score], Estimate]] = {
    "classification": balanced_accuracy,
    "ranking": auroc,
    "choice": choice_accuracy,
    "simulation": _correlation,
}


def _settled(score: Score, is_right: bool) -> Score:
    if score.kind == "simulation":
        return with_extreme_predictions(score, is_right=is_right)
    if score.kind == "choice":
        return replace(score, choices=tuple(_settled_choice(choice, is_right) for choice in score.choices))
    known = [trial.confidence for trial in score.trials if trial.failure is None and trial.confidence is not None]
    low, high = min(known, default=0.0) - 1, max(known, default=0.0) + 1
    return replace(
        score, trials=tuple(_settled_trial(trial, is_right, score.kind, low, high) for trial in score.trials)
    )


def _settled_trial(trial: Trial, is_right: bool, kind: ScoreKind, low: float, high: float) -> Trial:
    """Beyond every known confidence, on the side that is right or wrong for it."""
    if trial.failure is None and (trial.prediction is not None or kind == "ranking"):
        return trial
    verdict = trial.target == is_right
    return replace(
        trial, prediction=None if kind == "ranking" else verdict, confidence=high if verdict else low, failure=None
    )


def _settled_choice(choice: ChoiceTrial, is_right: bool) -> ChoiceTrial:
    if choice.failure is None and choice.chosen is not None:
        return choice
    return replace(choice, chosen=(choice.target + (not is_right)) % choice.n_choices, failure=None)
