"""Scores -> Estimates: pure functions that call no model and read no file.

An `Estimate` always carries its interval, the number of judged trials (or features) behind it and the number
that failed. A metric that cannot be computed is an `Estimate` without a value and with a reason: never NaN,
never 0, never an exception. Re-analysing a finished run costs nothing.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sae_auto_interp.metrics.agreement import cohen_kappa, equal_share, retest_kappa
    from sae_auto_interp.metrics.best_of_k import best_of_k_null, development_accuracy
    from sae_auto_interp.metrics.bootstrap import Resampling, bootstrap_estimate, bootstrap_mean
    from sae_auto_interp.metrics.choice import (
        choice_accuracy,
        choice_accuracy_by_quantile,
        choice_chance,
        choice_skill,
        choice_test,
    )
    from sae_auto_interp.metrics.classification import (
        ClassificationMetrics,
        Confusion,
        accuracy,
        balanced_accuracy,
        classification_metrics,
        confusion,
        f1,
        mcc,
        precision,
        recall,
        tnr,
        tnr_by_source,
        tpr,
        tpr_by_quantile,
    )
    from sae_auto_interp.metrics.comparison import PairedComparison, compare_paired
    from sae_auto_interp.metrics.density import measured_density
    from sae_auto_interp.metrics.document_bootstrap import average_precision, by_document
    from sae_auto_interp.metrics.intervals import (
        Interval,
        clopper_pearson,
        mover_mean_of_two,
        square_and_add,
        upper_bound,
        wilson,
    )
    from sae_auto_interp.metrics.losses import LossEstimates, loss_estimates, loss_recovered, mean_loss
    from sae_auto_interp.metrics.multiple import benjamini_hochberg, holm
    from sae_auto_interp.metrics.near_negatives import balanced_accuracy_by_source, discrimination
    from sae_auto_interp.metrics.over_documents import (
        ChoiceRates,
        FeatureRates,
        feature_auroc,
        feature_choices,
        feature_rates,
    )
    from sae_auto_interp.metrics.over_features import RunMetric, mean_over_features, paired_difference, skill
    from sae_auto_interp.metrics.power import (
        features_for_half_width,
        features_needed,
        half_width,
        power_of,
        smallest_difference,
    )
    from sae_auto_interp.metrics.prevalence import (
        average_precision_at_density,
        f1_at_density,
        mcc_at_density,
        precision_at_density,
    )
    from sae_auto_interp.metrics.ranking import auroc
    from sae_auto_interp.metrics.reliability import (
        balanced_accuracy_variance,
        disattenuated_correlation,
        feature_correlation,
        reliability,
    )
    from sae_auto_interp.metrics.sensitivity import FailureBounds, failure_bounds
    from sae_auto_interp.metrics.significance import Significance, chance_test, same_questions, shuffled_test
    from sae_auto_interp.metrics.simulation import SimulationMetrics, pearson, simulation_metrics
    from sae_auto_interp.metrics.wilcoxon import signed_rank

_HOME_OF = {
    "ChoiceRates": "feature_intervals",
    "ClassificationMetrics": "classification",
    "Confusion": "classification",
    "FailureBounds": "sensitivity",
    "FeatureRates": "feature_intervals",
    "Interval": "intervals",
    "LossEstimates": "losses",
    "PairedComparison": "comparison",
    "Resampling": "bootstrap",
    "RunMetric": "run_level",
    "Significance": "significance",
    "SimulationMetrics": "simulation",
    "accuracy": "classification",
    "auroc": "ranking",
    "average_precision": "document_bootstrap",
    "average_precision_at_density": "prevalence",
    "balanced_accuracy": "classification",
    "balanced_accuracy_by_source": "near_negatives",
    "balanced_accuracy_variance": "noise",
    "benjamini_hochberg": "multiple",
    "best_of_k_null": "selection",
    "bootstrap_estimate": "bootstrap",
    "bootstrap_mean": "bootstrap",
    "by_document": "document_bootstrap",
    "chance_test": "significance",
    "choice_accuracy": "choice",
    "choice_accuracy_by_quantile": "choice",
    "choice_chance": "choice",
    "choice_skill": "choice",
    "choice_test": "choice",
    "classification_metrics": "classification",
    "clopper_pearson": "intervals",
    "cohen_kappa": "agreement",
    "compare_paired": "comparison",
    "confusion": "classification",
    "development_accuracy": "selection",
    "disattenuated_correlation": "noise",
    "discrimination": "near_negatives",
    "equal_share": "agreement",
    "f1": "classification",
    "f1_at_density": "prevalence",
    "failure_bounds": "sensitivity",
    "feature_auroc": "feature_intervals",
    "feature_choices": "feature_intervals",
    "feature_correlation": "noise",
    "feature_rates": "feature_intervals",
    "features_for_half_width": "power",
    "features_needed": "power",
    "half_width": "power",
    "holm": "multiple",
    "loss_estimates": "losses",
    "loss_recovered": "losses",
    "mcc": "classification",
    "mcc_at_density": "prevalence",
    "mean_loss": "losses",
    "mean_over_features": "run_level",
    "measured_density": "density",
    "mover_mean_of_two": "intervals",
    "paired_difference": "run_level",
    "pearson": "simulation",
    "power_of": "power",
    "precision": "classification",
    "precision_at_density": "prevalence",
    "recall": "classification",
    "reliability": "noise",
    "retest_kappa": "agreement",
    "same_questions": "significance",
    "shuffled_test": "significance",
    "signed_rank": "wilcoxon",
    "simulation_metrics": "simulation",
    "skill": "run_level",
    "smallest_difference": "power",
    "square_and_add": "intervals",
    "tnr": "classification",
    "tnr_by_source": "classification",
    "tpr": "classification",
    "tpr_by_quantile": "classification",
    "upper_bound": "intervals",
    "wilson": "intervals",
}

__all__ = [
    "ChoiceRates",
    "ClassificationMetrics",
    "Confusion",
    "FailureBounds",
    "FeatureRates",
    "Interval",
    "LossEstimates",
    "PairedComparison",
    "Resampling",
    "RunMetric",
    "Significance",
    "SimulationMetrics",
    "accuracy",
    "auroc",
    "average_precision",
    "average_precision_at_density",
    "balanced_accuracy",
    "balanced_accuracy_by_source",
    "balanced_accuracy_variance",
    "benjamini_hochberg",
    "best_of_k_null",
    "bootstrap_estimate",
    "bootstrap_mean",
    "by_document",
    "chance_test",
    "choice_accuracy",
    "choice_accuracy_by_quantile",
    "choice_chance",
    "choice_skill",
    "choice_test",
    "classification_metrics",
    "clopper_pearson",
    "cohen_kappa",
    "compare_paired",
    "confusion",
    "development_accuracy",
    "disattenuated_correlation",
    "discrimination",
    "equal_share",
    "f1",
    "f1_at_density",
    "failure_bounds",
    "feature_auroc",
    "feature_choices",
    "feature_correlation",
    "feature_rates",
    "features_for_half_width",
    "features_needed",
    "half_width",
    "holm",
    "loss_estimates",
    "loss_recovered",
    "mcc",
    "mcc_at_density",
    "mean_loss",
    "mean_over_features",
    "measured_density",
    "mover_mean_of_two",
    "paired_difference",
    "pearson",
    "power_of",
    "precision",
    "precision_at_density",
    "recall",
    "reliability",
    "retest_kappa",
    "same_questions",
    "shuffled_test",
    "signed_rank",
    "simulation_metrics",
    "skill",
    "smallest_difference",
    "square_and_add",
    "tnr",
    "tnr_by_source",
    "tpr",
    "tpr_by_quantile",
    "upper_bound",
    "wilson",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
