"""The public names, each with the module that it is in; they load when they are first used."""

from .autoencoders import (
    load_autoencoders as load_autoencoders,
    load_eai_autoencoders as load_eai_autoencoders,
    load_oai_autoencoders as load_oai_autoencoders,
    load_saelens_autoencoders as load_saelens_autoencoders,
    load_sam_autoencoders as load_sam_autoencoders,
    save_autoencoder as save_autoencoder,
)
from .clients import OpenAIClient as OpenAIClient, ScriptedClient as ScriptedClient
from .explainers import LexicalExplainer as LexicalExplainer, SimpleExplainer as SimpleExplainer
from .features import (
    FeatureCache as FeatureCache,
    FeatureConfig as FeatureConfig,
    FeatureDataset as FeatureDataset,
    FeatureLoader as FeatureLoader,
)
from .scorers import DetectionScorer as DetectionScorer, FuzzingScorer as FuzzingScorer, RecallScorer as RecallScorer
from .types import (
    Estimate as Estimate,
    Explanation as Explanation,
    Failure as Failure,
    FeatureId as FeatureId,
    FeatureRecord as FeatureRecord,
    Score as Score,
)

__version__: str
__all__: list[str]
