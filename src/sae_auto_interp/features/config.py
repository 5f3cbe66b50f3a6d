"""The settings of feature records."""

from dataclasses import dataclass
from typing import Literal

from sae_auto_interp.errors import ConfigError

Sampling = Literal["top", "random", "quantile", "mix"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureConfig:
    """How a feature's activations become examples. Counts are examples per feature."""

    window: int = 32
    """Tokens per example; windows lie on a grid and never mix documents."""
    n_train: int = 40
    """Activating examples for the explainer."""
    n_test: int = 50
    """Activating examples for scoring."""
    n_quantiles: int = 10
    """Equal-count bins of the activating windows, sorted by maximum."""
    sampling: Sampling = "mix"
    """How the explainer's examples are chosen: top, random, quantile, or mix (a fifth top, the rest quantile)."""
    n_non_activating_train: int = 40
    n_non_activating_test: int = 50
    train_fraction: float = 0.5
    """Fraction of documents whose windows may be shown to the explainer; the others are for scoring."""
    min_examples: int = 20
    """Active windows below which a feature is rare and gets no record."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("window", "n_train", "n_test", "n_quantiles", "min_examples"):
            if getattr(self, name) < 1:
                raise ConfigError(f"features.{name}={getattr(self, name)}; give at least 1")
        if self.n_test < self.n_quantiles:
            raise ConfigError(f"features.n_test={self.n_test} is less than n_quantiles={self.n_quantiles}: a quantile would have no example")
        if not 0 < self.train_fraction < 1:
            raise ConfigError(f"features.train_fraction={self.train_fraction}; give a fraction between 0 and 1")
