"""FeatureRecord -> Explanation, or a Failure that says why not. One explainer per file, named by it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sae_auto_interp.explainers.lexical import LexicalExplainer
    from sae_auto_interp.explainers.simple import SimpleExplainer

__all__ = ["LexicalExplainer", "SimpleExplainer"]

_HOMES = {"LexicalExplainer": "lexical", "SimpleExplainer": "simple"}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
