"""The public names, each with the module that it is in; they load when they are first used."""

from .detection import DetectionScorer as DetectionScorer, RecallScorer as RecallScorer
from .discrimination import DiscriminationScorer as DiscriminationScorer
from .embedding import EmbeddingScorer as EmbeddingScorer
from .example_embedding import ExampleEmbeddingScorer as ExampleEmbeddingScorer
from .fuzzing import FuzzingScorer as FuzzingScorer
from .fuzzing_delphi import FuzzingDelphiScorer as FuzzingDelphiScorer
from .fuzzing_same_window import FuzzingSameWindowScorer as FuzzingSameWindowScorer
from .generation import GenerationScorer as GenerationScorer
from .intruder import IntruderScorer as IntruderScorer
from .intruder_explained import IntruderExplainedScorer as IntruderExplainedScorer
from .saebench import SaebenchScorer as SaebenchScorer
from .sensitivity import SensitivityScorer as SensitivityScorer
from .simulation import SimulationScorer as SimulationScorer
from .simulation_all_at_once import AllAtOnceSimulationScorer as AllAtOnceSimulationScorer
from .simulation_token_by_token import TokenByTokenSimulationScorer as TokenByTokenSimulationScorer
from .surprisal import SurprisalScorer as SurprisalScorer

__all__: list[str]
