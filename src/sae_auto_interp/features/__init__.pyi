"""The public names, each with the module that it is in; they load when they are first used."""

from .cache import FeatureCache as FeatureCache
from .config import CacheOptions as CacheOptions, FeatureConfig as FeatureConfig
from .constructors import (
    max_activation_pooling_sampler as max_activation_pooling_sampler,
    pool_centred_activation_windows as pool_centred_activation_windows,
)
from .dataset import FeatureDataset as FeatureDataset
from .loader import FeatureLoader as FeatureLoader
from .neighbours import load_neighbours as load_neighbours
from .neighbours.cooccurrence import jaccard_neighbours as jaccard_neighbours, pmi_neighbours as pmi_neighbours
from .neighbours.cosine import cosine_neighbours as cosine_neighbours
from .vocabulary import Vocabulary as Vocabulary

__all__: list[str]
