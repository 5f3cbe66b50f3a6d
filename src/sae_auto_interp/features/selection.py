"""Which windows become a feature's examples, and on which side: everything that chance decides about a record.

Validity is by construction: the documents are split first, then examples are drawn on each side. A selection is a few
small arrays and no text, so that it can be made in another process (`prefetch`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from sae_auto_interp.features.config import FeatureConfig, Sampling
from sae_auto_interp.features.constructors import ActiveWindows, activations_of
from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.features.negatives import random_non_activating
from sae_auto_interp.features.samplers import sample_windows
from sae_auto_interp.features.splits import training_documents
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Array, Failure, FeatureEntries, FeatureId, FeatureStats

POOLS = (
    "train", "test", "development",
    "non-activating for explaining", "non-activating for scoring", "non-activating for development",
)  # fmt: skip
"""Of examples: the activating ones first."""
N_ACTIVATING_POOLS = 3


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen windows of a feature: those of each of `POOLS` in turn, `sizes` says how many."""

    feature: FeatureId
    stats: FeatureStats
    sizes: tuple[int, ...]
    starts: Int64[Array, " n"]
    """Flat token index of each window's first token."""
    documents: Int32[Array, " n"]
    activations: Float32[Array, "n window"]
    quantiles: Int64[Array, " n_activating"]
    """Of the activating windows, pool by pool."""


@dataclass(frozen=True, slots=True)
class _Pool:
    starts: Int64[Array, " n"]
    documents: Int32[Array, " n"]
    quantiles: Int64[Array, " n_activating"]
    """None for windows in which the feature is silent."""


def select_windows(
    entries: FeatureEntries, windows: ActiveWindows, grid: WindowGrid, cfg: FeatureConfig
) -> Selection | Failure:
    """The windows of a feature's record, or the reason why there is none. Depends on nothing but the arguments."""
    feature = entries.feature
    if len(windows) < cfg.min_examples:
        return _too_rare(feature, len(windows), cfg.min_examples)
    sides = _sides(feature, windows, len(grid.rows.document_names), cfg)
    samplings: tuple[Sampling, ...] = (cfg.sampling, "quantile", "quantile")
    wanted = zip(POOLS, sides, (cfg.n_train, cfg.n_test, cfg.n_dev), samplings, strict=False)
    active = [
        _sampled(windows, np.flatnonzero(side[windows.documents]), n, sampling, cfg, _rng(cfg, name, feature))
        for name, side, n, sampling in wanted
    ]
    taken = {tokens.tobytes() for tokens in grid.tokens_at(np.concatenate([pool.starts for pool in active]))}
    counts = cfg.n_non_activating_train, cfg.n_non_activating_test, cfg.n_non_activating_dev
    rng = _rng(cfg, "non_activating", feature)
    silent = random_non_activating(windows.touched, grid, sides, counts, rng, taken=taken)
    pools = [*active, *(_Pool(grid.starts_of(w), grid.documents[w], np.empty(0, np.int64)) for w in silent)]
    return _problem(feature, pools, cfg) or _joined(entries, pools, _stats(entries, windows, grid), cfg.window)


def _sides(
    feature: FeatureId, windows: ActiveWindows, n_documents: int, cfg: FeatureConfig
) -> list[Bool[Array, " n_documents"]]:
    """The documents for explaining, for scoring and for development.

    Those for development are taken from the explainer's: whether they are asked for changes nothing in the test set.
    """
    is_train = training_documents(windows.documents, n_documents, cfg.train_fraction, _rng(cfg, "documents", feature))
    is_dev = np.zeros(n_documents, dtype=np.bool_)
    if cfg.has_development:
        of_train = windows.documents[is_train[windows.documents]]
        rng = _rng(cfg, "development documents", feature)
        is_dev = is_train & training_documents(of_train, n_documents, cfg.dev_fraction, rng)
    return [is_train & ~is_dev, ~is_train, is_dev]


def _sampled(
    windows: ActiveWindows,
    side: Int64[Array, " n"],
    n: int,
    sampling: Sampling,
    cfg: FeatureConfig,
    rng: np.random.Generator,
) -> _Pool:
    """`n` of the windows of one side, which are given by their indices, highest maximum first."""
    if n == 0:
        return _Pool(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int64))
    sample = sample_windows(len(side), n, cfg.n_quantiles, sampling, rng)
    chosen = side[sample.indices]
    return _Pool(windows.starts[chosen], windows.documents[chosen], sample.quantiles)


def _joined(entries: FeatureEntries, pools: Sequence[_Pool], stats: FeatureStats, window: int) -> Selection:
    starts = np.concatenate([pool.starts for pool in pools])
    sizes = tuple(len(pool.starts) for pool in pools)
    activations = activations_of(entries, starts, window)
    assert not activations[sum(sizes[:N_ACTIVATING_POOLS]) :].any(), (
        f"{entries.feature} fires in a window taken as silent"
    )
    documents = np.concatenate([pool.documents for pool in pools])
    quantiles = np.concatenate([pool.quantiles for pool in pools])
    return Selection(entries.feature, stats, sizes, starts, documents, activations, quantiles)


def _stats(entries: FeatureEntries, windows: ActiveWindows, grid: WindowGrid) -> FeatureStats:
    return FeatureStats(
        n_tokens=grid.n_text_tokens,
        n_activations=len(entries.activations),
        n_windows=grid.n_usable,
        n_active_windows=windows.n_on_grid,
        max_activation=float(entries.activations.max()),
        mean_activation=float(entries.activations.mean(dtype=np.float64)),
    )


def _too_rare(feature: FeatureId, n_windows: int, min_examples: int) -> Failure:
    kind = "dead" if n_windows == 0 else "rare"
    message = f"{feature} fires in {n_windows} distinct windows; min_examples is {min_examples}"
    return Failure("records", kind, message)


def _problem(feature: FeatureId, pools: Sequence[_Pool], cfg: FeatureConfig) -> Failure | None:
    """A record without examples of a kind that is asked for could not be explained, or not be tested."""
    wanted = (
        cfg.n_train, cfg.n_test, cfg.n_dev,
        cfg.n_non_activating_train, cfg.n_non_activating_test, cfg.n_non_activating_dev,
    )  # fmt: skip
    empty = [name for name, n, pool in zip(POOLS, wanted, pools, strict=True) if n > 0 and len(pool.starts) == 0]
    if not empty:
        return None
    reason = "it fires in too few documents, or in nearly every window"
    message = f"{feature} has no examples of kind: {', '.join(empty)}; {reason}"
    return Failure("records", "too_few_examples", message)


def _rng(cfg: FeatureConfig, purpose: str, feature: FeatureId) -> np.random.Generator:
    """One generator per choice: asking for more training examples leaves the test set as it is."""
    return derived_rng(cfg.seed, f"records.{purpose}", feature)
