"""The public names, each with the module that it is in; they load when they are first used."""

from .pages.html import write_report as write_report
from .summary import summarise as summarise, summarise_store as summarise_store
from .summary.values import (
    ExplainerSummary as ExplainerSummary,
    FailureGroup as FailureGroup,
    FeatureScore as FeatureScore,
    FeatureSummary as FeatureSummary,
    FurtherMetrics as FurtherMetrics,
    RunSummary as RunSummary,
    VariantSummary as VariantSummary,
)
from .summary.variants import Variant as Variant
from .tables.compare import (
    ComparedVariant as ComparedVariant,
    RunComparison as RunComparison,
    compare_runs as compare_runs,
    comparison_table as comparison_table,
)
from .tables.power import power_tables as power_tables
from .tables.preflight import preflight_table as preflight_table
from .tables.run import run_table as run_table

__all__: list[str]
