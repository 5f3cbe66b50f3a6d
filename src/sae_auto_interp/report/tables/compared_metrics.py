"""The metrics by which two runs can be compared: a name and a score -> the value for that feature.

Only values and failures of these estimates are used: a feature's own interval needs no many resamples.
"""

from collections.abc import Callable

import numpy as np

from sae_auto_interp.errors import UnknownNameError
from sae_auto_interp.metrics import (
    accuracy,
    auroc,
    average_precision,
    average_precision_at_density,
    balanced_accuracy,
    choice_accuracy,
    choice_skill,
    discrimination,
    f1,
    f1_at_density,
    mcc,
    mcc_at_density,
    precision,
    precision_at_density,
    simulation_metrics,
    tnr,
    tpr,
)
from sae_auto_interp.report.summary.further import WINDOW_SCORERS
from sae_auto_interp.types import Estimate, Score, ScoreKind

N_RESAMPLES = 2


def _average_precision(score: Score, level: float) -> Estimate:
    return average_precision(score, np.random.default_rng(0), level, N_RESAMPLES)


def _average_precision_at_density(score: Score, density: float, level: float) -> Estimate:
    return average_precision_at_density(score, density, np.random.default_rng(0), level, N_RESAMPLES)


CLASSIFICATION_METRICS: dict[str, Callable[[Score, float], Estimate]] = {
    "balanced_accuracy": balanced_accuracy,
    "tpr": tpr,
    "recall": tpr,
    "tnr": tnr,
    "precision": precision,
    "f1": f1,
    "mcc": mcc,
    "auroc": auroc,
    "average_precision": _average_precision,
    "accuracy": accuracy,
    "discrimination": discrimination,
}
IN_TEXT_METRICS: dict[str, Callable[[Score, float, float], Estimate]] = {
    "precision_at_density": precision_at_density,
    "f1_at_density": f1_at_density,
    "mcc_at_density": mcc_at_density,
    "average_precision_at_density": _average_precision_at_density,
}
"""At the feature's window density; of scorers that ask about windows."""
OF_CONFIDENCES = ("auroc", "average_precision")
"""Metrics of verdicts with probabilities, and of rankings."""
CHOICE_METRICS: dict[str, Callable[[Score, float], Estimate]] = {
    "choice_accuracy": choice_accuracy,
    "choice_skill": choice_skill,
}
SIMULATION_METRICS = ("ev_correlation", "rsquared", "absolute_dev_explained")


def kinds_of(metric: str) -> tuple[ScoreKind, ...]:
    """Which scores it is computed from. Raises `UnknownNameError`."""
    if metric in OF_CONFIDENCES:
        return "classification", "ranking"
    if metric in CLASSIFICATION_METRICS or metric in IN_TEXT_METRICS:
        return ("classification",)
    if metric in CHOICE_METRICS:
        return ("choice",)
    if metric in SIMULATION_METRICS:
        return ("simulation",)
    known = [*CLASSIFICATION_METRICS, *IN_TEXT_METRICS, *CHOICE_METRICS, *SIMULATION_METRICS]
    raise UnknownNameError("metric", metric, known)


def is_for(metric: str, scorer: str) -> bool:
    """Whether the metric means anything for this scorer."""
    return metric not in IN_TEXT_METRICS or scorer in WINDOW_SCORERS


def estimate_of(metric: str, score: Score, density: float | None, level: float) -> Estimate:
    """`density` is the share of windows in which the feature fires, None where that was not counted."""
    if metric in CLASSIFICATION_METRICS:
        return CLASSIFICATION_METRICS[metric](score, level)
    if metric in CHOICE_METRICS:
        return CHOICE_METRICS[metric](score, level)
    if metric in SIMULATION_METRICS:
        return getattr(simulation_metrics(score, np.random.default_rng(0), level, N_RESAMPLES), metric)
    if density is None:
        n_failed = sum(trial.failure is not None for trial in score.trials)
        return Estimate(None, None, None, level, metric, 0, n_failed, "the window density was not counted")
    return IN_TEXT_METRICS[metric](score, density, level)
