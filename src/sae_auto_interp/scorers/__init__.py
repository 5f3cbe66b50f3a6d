"""(FeatureRecord, Explanation) -> Score: trials with the truth beside each verdict. Never a metric."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sae_auto_interp.scorers.detection import DetectionScorer, RecallScorer
    from sae_auto_interp.scorers.fuzzing import FuzzingScorer

__all__ = ["DetectionScorer", "FuzzingScorer", "RecallScorer"]

_HOMES = {"DetectionScorer": "detection", "FuzzingScorer": "fuzzing", "RecallScorer": "detection"}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
