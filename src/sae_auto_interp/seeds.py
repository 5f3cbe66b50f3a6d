"""One generator per (run seed, purpose, feature): results do not depend on order, concurrency or resuming."""

import zlib

import numpy as np

from sae_auto_interp.types import FeatureId


def derived_rng(seed: int, purpose: str, feature: FeatureId | None = None) -> np.random.Generator:
    """A generator that nothing else uses; `purpose` names what is drawn, e.g. "detection.order"; `seed` is >= 0."""
    words = [seed, zlib.crc32(purpose.encode())]
    if feature is not None:
        words += [zlib.crc32(feature.module_path.encode()), feature.index]
    return np.random.default_rng(words)
