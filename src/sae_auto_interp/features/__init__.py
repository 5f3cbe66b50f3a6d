"""The cache seen as feature records: what is evidence for an explanation, and what it is tested on."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sae_auto_interp.features.cache import FeatureCache
    from sae_auto_interp.features.config import CacheOptions, FeatureConfig
    from sae_auto_interp.features.constructors import max_activation_pooling_sampler, pool_centred_activation_windows
    from sae_auto_interp.features.dataset import FeatureDataset
    from sae_auto_interp.features.loader import FeatureLoader
    from sae_auto_interp.features.vocabulary import Vocabulary

__all__ = [
    "CacheOptions",
    "FeatureCache",
    "FeatureConfig",
    "FeatureDataset",
    "FeatureLoader",
    "Vocabulary",
    "max_activation_pooling_sampler",
    "pool_centred_activation_windows",
]

_HOMES = {
    "CacheOptions": "config",
    "FeatureCache": "cache",
    "FeatureConfig": "config",
    "FeatureDataset": "dataset",
    "FeatureLoader": "loader",
    "Vocabulary": "vocabulary",
    "max_activation_pooling_sampler": "constructors",
    "pool_centred_activation_windows": "constructors",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
