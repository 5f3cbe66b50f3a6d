"""The public names, each with the module that it is in; they load when they are first used."""

from .agreement import cohen_kappa as cohen_kappa, equal_share as equal_share, retest_kappa as retest_kappa
from .best_of_k import best_of_k_null as best_of_k_null, development_accuracy as development_accuracy
from .bootstrap import (
    Resampling as Resampling,
    bootstrap_estimate as bootstrap_estimate,
    bootstrap_mean as bootstrap_mean,
)
from .choice import (
    choice_accuracy as choice_accuracy,
    choice_accuracy_by_quantile as choice_accuracy_by_quantile,
    choice_chance as choice_chance,
    choice_skill as choice_skill,
    choice_test as choice_test,
)
from .classification import (
    ClassificationMetrics as ClassificationMetrics,
    Confusion as Confusion,
    accuracy as accuracy,
    balanced_accuracy as balanced_accuracy,
    balanced_accuracy_by_source as balanced_accuracy_by_source,
    classification_metrics as classification_metrics,
    confusion as confusion,
    discrimination as discrimination,
    f1 as f1,
    mcc as mcc,
    precision as precision,
    recall as recall,
    tnr as tnr,
    tnr_by_source as tnr_by_source,
    tpr as tpr,
    tpr_by_quantile as tpr_by_quantile,
)
from .comparison import (
    PairedComparison as PairedComparison,
    compare_paired as compare_paired,
    signed_rank as signed_rank,
)
from .failure_bounds import FailureBounds as FailureBounds, failure_bounds as failure_bounds
from .intervals import (
    Interval as Interval,
    clopper_pearson as clopper_pearson,
    measured_density as measured_density,
    mover_mean_of_two as mover_mean_of_two,
    square_and_add as square_and_add,
    upper_bound as upper_bound,
    wilson as wilson,
)
from .judged_trials import auroc as auroc
from .losses import (
    LossEstimates as LossEstimates,
    loss_estimates as loss_estimates,
    loss_recovered as loss_recovered,
    mean_loss as mean_loss,
)
from .over_documents import (
    ChoiceRates as ChoiceRates,
    FeatureRates as FeatureRates,
    average_precision as average_precision,
    by_document as by_document,
    feature_auroc as feature_auroc,
    feature_choices as feature_choices,
    feature_rates as feature_rates,
)
from .over_features import (
    RunMetric as RunMetric,
    mean_over_features as mean_over_features,
    paired_difference as paired_difference,
    skill as skill,
)
from .power import (
    features_for_half_width as features_for_half_width,
    features_needed as features_needed,
    half_width as half_width,
    power_of as power_of,
    smallest_difference as smallest_difference,
)
from .prevalence import (
    average_precision_at_density as average_precision_at_density,
    f1_at_density as f1_at_density,
    mcc_at_density as mcc_at_density,
    precision_at_density as precision_at_density,
)
from .reliability import (
    balanced_accuracy_variance as balanced_accuracy_variance,
    disattenuated_correlation as disattenuated_correlation,
    feature_correlation as feature_correlation,
    reliability as reliability,
)
from .significance import (
    Significance as Significance,
    benjamini_hochberg as benjamini_hochberg,
    chance_test as chance_test,
    holm as holm,
    same_questions as same_questions,
    shuffled_test as shuffled_test,
)
from .simulation import (
    SimulationMetrics as SimulationMetrics,
    pearson as pearson,
    simulation_metrics as simulation_metrics,
)

__all__: list[str]
