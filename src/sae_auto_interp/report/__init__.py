"""A finished run as people read it: a summary of values, a table for the terminal, a page for the browser.

Reads results.sqlite through `results` and computes with `metrics`; calls no model, and needs no torch. Whatever
comes from a model or a text (tokens, explanations, error messages) is treated as hostile and escaped.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sae_auto_interp.report.pages.html import write_report
    from sae_auto_interp.report.summary import summarise, summarise_store
    from sae_auto_interp.report.summary.values import (
        ExplainerSummary,
        FailureGroup,
        FeatureScore,
        FeatureSummary,
        FurtherMetrics,
        RunSummary,
        VariantSummary,
    )
    from sae_auto_interp.report.summary.variants import Variant
    from sae_auto_interp.report.tables.compare import ComparedVariant, RunComparison, compare_runs, comparison_table
    from sae_auto_interp.report.tables.power import power_tables
    from sae_auto_interp.report.tables.preflight import preflight_table
    from sae_auto_interp.report.tables.run import run_table

_HOME_OF = {
    "ComparedVariant": "compare",
    "ExplainerSummary": "values",
    "FailureGroup": "values",
    "FeatureScore": "values",
    "FeatureSummary": "values",
    "FurtherMetrics": "values",
    "RunComparison": "compare",
    "RunSummary": "values",
    "Variant": "variants",
    "VariantSummary": "values",
    "compare_runs": "compare",
    "comparison_table": "compare",
    "power_tables": "power_table",
    "preflight_table": "fit_table",
    "run_table": "table",
    "summarise": "summary",
    "summarise_store": "summary",
    "write_report": "html",
}

__all__ = [
    "ComparedVariant",
    "ExplainerSummary",
    "FailureGroup",
    "FeatureScore",
    "FeatureSummary",
    "FurtherMetrics",
    "RunComparison",
    "RunSummary",
    "Variant",
    "VariantSummary",
    "compare_runs",
    "comparison_table",
    "power_tables",
    "preflight_table",
    "run_table",
    "summarise",
    "summarise_store",
    "write_report",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
