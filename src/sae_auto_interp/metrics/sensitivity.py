"""What a metric would be if every failed trial had been wrong, or right: how much the failures could matter.

Failed trials are in no metric, which is fair only if a failure says nothing about the answer. These bounds need no
such assumption (C. F. Manski, Identification for Prediction and Decision, 2007, chapter 2). Narrow bounds: the
failures do not matter. Wide ones: mend the failures before believing the metric.

Wrong and right, by kind: the other verdict, or the true one; the wrong choice, or the right one; in a ranking below
every negative or above every positive, or the reverse; in a simulation the predictions of `extreme_simulations`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sae_auto_interp.metrics.choice import choice_accuracy
from sae_auto_interp.metrics.classification import balanced_accuracy
from sae_auto_interp.metrics.failure_bounds import with_extreme_predictions
from sae_auto_interp.metrics.ranking import auroc
from sae_auto_interp.metrics.simulation import simulation_metrics
from sae_auto_interp.types import ChoiceTrial, Estimate, Score, ScoreKind, Trial


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
