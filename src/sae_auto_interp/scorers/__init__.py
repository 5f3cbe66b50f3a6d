"""(FeatureRecord, Explanation) -> Score: trials with the truth beside each verdict. Never a metric."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sae_auto_interp.scorers.detection import DetectionScorer, RecallScorer
    from sae_auto_interp.scorers.fuzzing import FuzzingScorer
    from sae_auto_interp.scorers.generation import GenerationScorer
    from sae_auto_interp.scorers.simulation import SimulationScorer
    from sae_auto_interp.scorers.simulation_all_at_once import AllAtOnceSimulationScorer
    from sae_auto_interp.scorers.simulation_token_by_token import TokenByTokenSimulationScorer
    from sae_auto_interp.scorers.surprisal import SurprisalScorer

__all__ = [
    "AllAtOnceSimulationScorer",
    "DetectionScorer",
    "FuzzingScorer",
    "GenerationScorer",
    "RecallScorer",
    "SimulationScorer",
    "SurprisalScorer",
    "TokenByTokenSimulationScorer",
]

_HOMES = {
    "AllAtOnceSimulationScorer": "simulation_all_at_once",
    "DetectionScorer": "detection",
    "FuzzingScorer": "fuzzing",
    "GenerationScorer": "generation",
    "RecallScorer": "detection",
    "SimulationScorer": "simulation",
    "SurprisalScorer": "surprisal",
    "TokenByTokenSimulationScorer": "simulation_token_by_token",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
