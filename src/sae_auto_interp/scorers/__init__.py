"""(FeatureRecord, Explanation) -> Score: trials with the truth beside each verdict. Never a metric."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sae_auto_interp.scorers.detection import DetectionScorer, RecallScorer
    from sae_auto_interp.scorers.discrimination import DiscriminationScorer
    from sae_auto_interp.scorers.embedding import EmbeddingScorer
    from sae_auto_interp.scorers.example_embedding import ExampleEmbeddingScorer
    from sae_auto_interp.scorers.fuzzing import FuzzingScorer
    from sae_auto_interp.scorers.fuzzing_delphi import FuzzingDelphiScorer
    from sae_auto_interp.scorers.fuzzing_same_window import FuzzingSameWindowScorer
    from sae_auto_interp.scorers.generation import GenerationScorer
    from sae_auto_interp.scorers.intruder import IntruderScorer
    from sae_auto_interp.scorers.intruder_explained import IntruderExplainedScorer
    from sae_auto_interp.scorers.saebench import SaebenchScorer
    from sae_auto_interp.scorers.sensitivity import SensitivityScorer
    from sae_auto_interp.scorers.simulation import SimulationScorer
    from sae_auto_interp.scorers.simulation_all_at_once import AllAtOnceSimulationScorer
    from sae_auto_interp.scorers.simulation_token_by_token import TokenByTokenSimulationScorer
    from sae_auto_interp.scorers.surprisal import SurprisalScorer

__all__ = [
    "AllAtOnceSimulationScorer",
    "DetectionScorer",
    "DiscriminationScorer",
    "EmbeddingScorer",
    "ExampleEmbeddingScorer",
    "FuzzingDelphiScorer",
    "FuzzingSameWindowScorer",
    "FuzzingScorer",
    "GenerationScorer",
    "IntruderExplainedScorer",
    "IntruderScorer",
    "RecallScorer",
    "SaebenchScorer",
    "SensitivityScorer",
    "SimulationScorer",
    "SurprisalScorer",
    "TokenByTokenSimulationScorer",
]

_HOMES = {
    "AllAtOnceSimulationScorer": "simulation_all_at_once",
    "DetectionScorer": "detection",
    "DiscriminationScorer": "discrimination",
    "EmbeddingScorer": "embedding",
    "ExampleEmbeddingScorer": "example_embedding",
    "FuzzingDelphiScorer": "fuzzing_delphi",
    "FuzzingSameWindowScorer": "fuzzing_same_window",
    "FuzzingScorer": "fuzzing",
    "GenerationScorer": "generation",
    "IntruderExplainedScorer": "intruder_explained",
    "IntruderScorer": "intruder",
    "RecallScorer": "detection",
    "SaebenchScorer": "saebench",
    "SensitivityScorer": "sensitivity",
    "SimulationScorer": "simulation",
    "SurprisalScorer": "surprisal",
    "TokenByTokenSimulationScorer": "simulation_token_by_token",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
