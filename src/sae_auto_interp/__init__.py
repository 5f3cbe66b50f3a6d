"""Explain the features of sparse autoencoders in words, and score the explanations.

The names below load on first use (PEP 562): importing the package loads neither torch nor numpy.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sae_auto_interp.autoencoders import (
        load_autoencoders,
        load_eai_autoencoders,
        load_oai_autoencoders,
        load_saelens_autoencoders,
        load_sam_autoencoders,
        save_autoencoder,
    )
    from sae_auto_interp.clients import OpenAIClient, ScriptedClient
    from sae_auto_interp.explainers import LexicalExplainer, SimpleExplainer
    from sae_auto_interp.features import FeatureCache, FeatureConfig, FeatureDataset, FeatureLoader
    from sae_auto_interp.scorers import DetectionScorer, FuzzingScorer, RecallScorer
    from sae_auto_interp.types import Estimate, Explanation, Failure, FeatureId, FeatureRecord, Score

__version__ = "0.1.0"

__all__ = [
    "DetectionScorer",
    "Estimate",
    "Explanation",
    "Failure",
    "FeatureCache",
    "FeatureConfig",
    "FeatureDataset",
    "FeatureId",
    "FeatureLoader",
    "FeatureRecord",
    "FuzzingScorer",
    "LexicalExplainer",
    "OpenAIClient",
    "RecallScorer",
    "Score",
    "ScriptedClient",
    "SimpleExplainer",
    "__version__",
    "load_autoencoders",
    "load_eai_autoencoders",
    "load_oai_autoencoders",
    "load_saelens_autoencoders",
    "load_sam_autoencoders",
    "save_autoencoder",
]

_HOME_OF = {
    "DetectionScorer": "scorers",
    "Estimate": "types",
    "Explanation": "types",
    "Failure": "types",
    "FeatureCache": "features",
    "FeatureConfig": "features",
    "FeatureDataset": "features",
    "FeatureId": "types",
    "FeatureLoader": "features",
    "FeatureRecord": "types",
    "FuzzingScorer": "scorers",
    "LexicalExplainer": "explainers",
    "OpenAIClient": "clients",
    "RecallScorer": "scorers",
    "Score": "types",
    "ScriptedClient": "clients",
    "SimpleExplainer": "explainers",
    "load_autoencoders": "autoencoders",
    "load_eai_autoencoders": "autoencoders",
    "load_oai_autoencoders": "autoencoders",
    "load_saelens_autoencoders": "autoencoders",
    "load_sam_autoencoders": "autoencoders",
    "save_autoencoder": "autoencoders",
}


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
