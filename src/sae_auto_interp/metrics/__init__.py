"""Scores -> Estimates: pure functions that call no model and read no file.

An `Estimate` always carries its interval, the number of judged trials (or features) behind it and the number
that failed. A metric that cannot be computed is an `Estimate` without a value and with a reason: never NaN,
never 0, never an exception. Re-analysing a finished run costs nothing.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sae_auto_interp.metrics.classification import (
        ClassificationMetrics,
        Confusion,
        balanced_accuracy,
        classification_metrics,
        confusion,
        f1,
        mcc,
        precision,
        recall,
        tnr,
        tpr,
        tpr_by_quantile,
    )
    from sae_auto_interp.metrics.intervals import (
        Interval,
        bootstrap_mean,
        mover_mean_of_two,
        square_and_add,
        wilson,
    )
    from sae_auto_interp.metrics.losses import LossEstimates, loss_estimates, loss_recovered, mean_loss
    from sae_auto_interp.metrics.ranking import auroc
    from sae_auto_interp.metrics.run_level import RunMetric, mean_over_features, paired_difference, skill

_HOME_OF = {
    "ClassificationMetrics": "classification",
    "Confusion": "classification",
    "Interval": "intervals",
    "LossEstimates": "losses",
    "RunMetric": "run_level",
    "auroc": "ranking",
    "balanced_accuracy": "classification",
    "bootstrap_mean": "intervals",
    "classification_metrics": "classification",
    "confusion": "classification",
    "f1": "classification",
    "loss_estimates": "losses",
    "loss_recovered": "losses",
    "mcc": "classification",
    "mean_loss": "losses",
    "mean_over_features": "run_level",
    "mover_mean_of_two": "intervals",
    "paired_difference": "run_level",
    "precision": "classification",
    "recall": "classification",
    "skill": "run_level",
    "square_and_add": "intervals",
    "tnr": "classification",
    "tpr": "classification",
    "tpr_by_quantile": "classification",
    "wilson": "intervals",
}

__all__ = [
    "ClassificationMetrics",
    "Confusion",
    "Interval",
    "LossEstimates",
    "RunMetric",
    "auroc",
    "balanced_accuracy",
    "bootstrap_mean",
    "classification_metrics",
    "confusion",
    "f1",
    "loss_estimates",
    "loss_recovered",
    "mcc",
    "mean_loss",
    "mean_over_features",
    "mover_mean_of_two",
    "paired_difference",
    "precision",
    "recall",
    "skill",
    "square_and_add",
    "tnr",
    "tpr",
    "tpr_by_quantile",
    "wilson",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
