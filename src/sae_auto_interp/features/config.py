"""The settings of caching and of feature records."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from sae_auto_interp.errors import ConfigError, InputError, UnknownNameError

Sampling = Literal["top", "random", "quantile", "mix", "interval", "importance"]
Windows = Literal["grid", "centred"]
NonActivatingKind = Literal["random", "neighbour", "similar", "token"]
NonActivatingCounts = int | Mapping[NonActivatingKind, int]
"""Silent windows of each kind; a number alone means random ones."""
NeighbourKind = Literal["decoder", "encoder", "jaccard", "pmi"]
ACTIVATION_DTYPES = ("float16", "bfloat16", "float32")
BACKENDS = ("hooks", "nnsight")
MOST_BUFFER_MIB = 16_384
"""More entries than fit it could not be counted in 31 bits when they are sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheOptions:
    """How to cache; only `activation_dtype` and the norm mask change what is found."""

    activation_dtype: str = "float16"
    """Type of the stored values: float16, bfloat16 or float32."""
    buffer_mib: int = 64
    """Memory for activations waiting to be spilled; 0 spills after every batch."""
    work_dir: Path | None = None
    """Where half-finished work is kept, so that a killed run resumes; None uses a temporary directory."""
    data_name: str = "tokens"
    """What the manifest calls the text."""
    backend: str = "hooks"
    """How activations are read: plain torch hooks, or an NNsight trace ("nnsight"). Both give the same bits."""
    max_norm_multiple: float | None = None
    """Leave out positions where a module's activation is longer than this many median norms; None reads all."""
    median_norms: Mapping[str, float] | None = None
    """{module path: median norm}, as another cache's manifest gives it; None takes it from the first rows."""

    def __post_init__(self) -> None:
        if self.activation_dtype not in ACTIVATION_DTYPES:
            choices = " or ".join(ACTIVATION_DTYPES)
            raise InputError(f"CacheOptions: activation_dtype={self.activation_dtype!r}; give {choices}")
        if self.backend not in BACKENDS:
            raise InputError(f"CacheOptions: backend={self.backend!r}; give {' or '.join(BACKENDS)}")
        if not 0 <= self.buffer_mib <= MOST_BUFFER_MIB:
            raise InputError(f"CacheOptions: buffer_mib={self.buffer_mib}; give 0 to {MOST_BUFFER_MIB}")
        if self.max_norm_multiple is not None and not 1 < self.max_norm_multiple < math.inf:
            raise InputError(f"CacheOptions: max_norm_multiple={self.max_norm_multiple}; give more than 1, e.g. 10")
        if self.median_norms is not None and self.max_norm_multiple is None:
            raise InputError("CacheOptions: median_norms without max_norm_multiple mask nothing; give both")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureConfig:
    """How a feature's activations become examples. Counts are examples per feature."""

    window: int = 32
    """Tokens per example; windows never mix documents."""
    windows: Windows = "grid"
    """Windows of activating examples: on a grid, the activation anywhere; or centred, the peak a quarter before the
    end."""
    n_train: int = 40
    """Activating examples for the explainer."""
    n_test: int = 50
    """Activating examples for scoring."""
    n_quantiles: int = 10
    """Equal-count bins of the activating windows, sorted by maximum."""
    sampling: Sampling = "mix"
    """How the explainer's examples are chosen: top, random, quantile, mix (a fifth top, the rest quantile), interval
    (of activation, equally wide) or importance (in proportion to the squared maximum)."""
    test_sampling: Sampling = "quantile"
    """The same of the examples for scoring, and for development."""
    n_dev: int = 0
    """Activating examples by which explainers that try several explanations choose; never in a reported score."""
    n_non_activating_train: NonActivatingCounts = 40
    """Silent windows for the explainer: a number of random ones, or {kind: number}."""
    n_non_activating_test: NonActivatingCounts = 50
    """The same for scoring."""
    n_non_activating_dev: NonActivatingCounts = 0
    """The same for choosing among explanations."""
    neighbours: NeighbourKind = "jaccard"
    """Who are the neighbours in whose windows those of kind `neighbour` are sought."""
    n_neighbours: int = 10
    """How many of them, at most."""
    similar_pool: int = 10_000
    """Windows of the corpus, drawn at random, among which those of kind `similar` are sought: each must be embedded."""
    near_duplicate_tokens: int | None = None
    """Tokens in a row that two examples may not share: `window` leaves out equal texts alone, None is half a window,
    but at least 12."""
    train_fraction: float = 0.5
    """Fraction of documents whose windows may be shown to the explainer; the others are for scoring."""
    dev_fraction: float = 0.4
    """Fraction of the explainer's documents that are for development instead, where examples of that are asked for."""
    min_examples: int = 20
    """Distinct active windows below which a feature is rare and gets no record."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("window", "n_train", "n_test", "n_quantiles", "min_examples", "n_neighbours", "similar_pool"):
            self._at_least(1, name)
        for name in ("n_dev", "seed"):
            self._at_least(0, name)
        for name in ("n_non_activating_train", "n_non_activating_test", "n_non_activating_dev"):
            self._counts_kinds(name)
        self._one_of(get_args(Sampling), "sampling")
        self._one_of(get_args(Sampling), "test_sampling")
        self._one_of(get_args(Windows), "windows")
        self._one_of(get_args(NeighbourKind), "neighbours")
        run = self.near_duplicate_tokens
        if run is not None and not 1 <= run <= self.window:
            raise ConfigError(f"features.near_duplicate_tokens={run}; give 1 to {self.window}, the window")
        if self.sampling == "quantile":
            self._covers_quantiles("n_train")
        if self.test_sampling == "quantile":
            self._covers_quantiles("n_test")
            if self.n_dev:
                self._covers_quantiles("n_dev")
        for name in ("train_fraction", "dev_fraction"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"features.{name}={getattr(self, name)}; give a fraction between 0 and 1")

    @property
    def has_development(self) -> bool:
        """Whether some documents are set apart for development."""
        return self.n_dev > 0 or any(self.silent_counts[2].values())

    @property
    def silent_counts(self) -> tuple[Mapping[NonActivatingKind, int], ...]:
        """How many silent windows of which kind: for explaining, for scoring, for development."""
        given = (self.n_non_activating_train, self.n_non_activating_test, self.n_non_activating_dev)
        return tuple({"random": counts} if isinstance(counts, int) else counts for counts in given)

    def asks_for(self, kind: NonActivatingKind) -> bool:
        """Whether silent windows of a kind are wanted for anything."""
        return any(counts.get(kind, 0) for counts in self.silent_counts)

    def _at_least(self, least: int, name: str) -> None:
        if getattr(self, name) < least:
            raise ConfigError(f"features.{name}={getattr(self, name)}; give at least {least}")

    def _counts_kinds(self, name: str) -> None:
        counts = getattr(self, name)
        for kind, n in ({"random": counts} if isinstance(counts, int) else counts).items():
            if kind not in get_args(NonActivatingKind):
                raise UnknownNameError(f"kind of windows in features.{name}", str(kind), get_args(NonActivatingKind))
            if n < 0:
                where = f"features.{name}" if isinstance(counts, int) else f"features.{name}.{kind}"
                raise ConfigError(f"{where}={n}; give at least 0")

    def _one_of(self, choices: tuple[str, ...], name: str) -> None:
        if getattr(self, name) not in choices:
            raise ConfigError(f"features.{name}={getattr(self, name)!r}; give one of {', '.join(choices)}")

    def _covers_quantiles(self, name: str) -> None:
        if getattr(self, name) < self.n_quantiles:
            raise ConfigError(
                f"features.{name}={getattr(self, name)} is less than n_quantiles={self.n_quantiles}: "
                "a quantile would have no example; ask for more examples or fewer quantiles"
            )
