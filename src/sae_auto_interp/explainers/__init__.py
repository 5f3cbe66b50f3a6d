"""FeatureRecord -> Explanation, or a Failure that says why not. One explainer per file, named by it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sae_auto_interp.explainers.best_of_n import BestOfNExplainer
    from sae_auto_interp.explainers.contrastive import ContrastiveExplainer
    from sae_auto_interp.explainers.lexical import LexicalExplainer
    from sae_auto_interp.explainers.max_activation import MaxActivationExplainer
    from sae_auto_interp.explainers.max_activation_logits import MaxActivationLogitsExplainer
    from sae_auto_interp.explainers.no_op import NoOpExplainer
    from sae_auto_interp.explainers.revision import RevisionExplainer
    from sae_auto_interp.explainers.saebench import SaebenchExplainer
    from sae_auto_interp.explainers.simple import SimpleExplainer
    from sae_auto_interp.explainers.single_token import SingleTokenExplainer
    from sae_auto_interp.explainers.stored import StoredExplainer
    from sae_auto_interp.explainers.token_activation_pairs import TokenActivationPairsExplainer

__all__ = [
    "BestOfNExplainer",
    "ContrastiveExplainer",
    "LexicalExplainer",
    "MaxActivationExplainer",
    "MaxActivationLogitsExplainer",
    "NoOpExplainer",
    "RevisionExplainer",
    "SaebenchExplainer",
    "SimpleExplainer",
    "SingleTokenExplainer",
    "StoredExplainer",
    "TokenActivationPairsExplainer",
]

_HOMES = {
    "BestOfNExplainer": "best_of_n",
    "ContrastiveExplainer": "contrastive",
    "LexicalExplainer": "lexical",
    "MaxActivationExplainer": "max_activation",
    "MaxActivationLogitsExplainer": "max_activation_logits",
    "NoOpExplainer": "no_op",
    "RevisionExplainer": "revision",
    "SaebenchExplainer": "saebench",
    "SimpleExplainer": "simple",
    "SingleTokenExplainer": "single_token",
    "StoredExplainer": "stored",
    "TokenActivationPairsExplainer": "token_activation_pairs",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
