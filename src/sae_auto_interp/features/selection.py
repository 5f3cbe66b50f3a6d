"""Which windows become a feature's examples, and on which side: everything that chance decides about a record.

Validity is by construction: the documents are split first, then examples are drawn on each side. A selection is a few
small arrays and no text, so that it can be made in another process (`prefetch`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, Int64

from sae_auto_interp.features.config import FeatureConfig, Sampling
from sae_auto_interp.features.constructors import ActiveWindows, activations_of
from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.features.negatives import random_non_activating
from sae_auto_interp.features.samplers import sample_windows
from sae_auto_interp.features.splits import training_documents
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Array, Failure, FeatureEntries, FeatureId, FeatureStats

POOLS = ("train", "test", "non-activating for explaining", "non-activating for scoring")


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
    """Of the activating windows: those for training, then those for testing."""


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
    n_documents = len(grid.rows.document_names)
    rng = _rng(cfg, "documents", feature)
    is_train = training_documents(windows.documents, n_documents, cfg.train_fraction, rng)
    on_train_side = is_train[windows.documents]
    train = _sampled(
        windows, np.flatnonzero(on_train_side), cfg.n_train, cfg.sampling, cfg, _rng(cfg, "train", feature)
    )
    test = _sampled(windows, np.flatnonzero(~on_train_side), cfg.n_test, "quantile", cfg, _rng(cfg, "test", feature))
    taken = {tokens.tobytes() for tokens in grid.tokens_at(np.concatenate([train.starts, test.starts]))}
    counts = cfg.n_non_activating_train, cfg.n_non_activating_test
    rng = _rng(cfg, "non_activating", feature)
    silent = random_non_activating(windows.touched, grid, is_train, *counts, rng, taken=taken)
    pools = [train, test, *(_Pool(grid.starts_of(w), grid.documents[w], np.empty(0, np.int64)) for w in silent)]
    return _problem(feature, pools, cfg) or _joined(entries, pools, _stats(entries, windows, grid), cfg.window)


def _sampled(
    windows: ActiveWindows,
    side: Int64[Array, " n"],
    n: int,
    sampling: Sampling,
    cfg: FeatureConfig,
    rng: np.random.Generator,
) -> _Pool:
    """`n` of the windows of one side, which are given by their indices, highest maximum first."""
    sample = sample_windows(len(side), n, cfg.n_quantiles, sampling, rng)
    chosen = side[sample.indices]
    return _Pool(windows.starts[chosen], windows.documents[chosen], sample.quantiles)


def _joined(entries: FeatureEntries, pools: Sequence[_Pool], stats: FeatureStats, window: int) -> Selection:
    starts = np.concatenate([pool.starts for pool in pools])
    sizes = tuple(len(pool.starts) for pool in pools)
    activations = activations_of(entries, starts, window)
    assert not activations[sizes[0] + sizes[1] :].any(), f"{entries.feature} fires in a window taken as silent"
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
    wanted = (cfg.n_train, cfg.n_test, cfg.n_non_activating_train, cfg.n_non_activating_test)
    empty = [name for name, n, pool in zip(POOLS, wanted, pools, strict=True) if n > 0 and len(pool.starts) == 0]
    if not empty:
        return None
    reason = "it fires in too few documents, or in nearly every window"
    message = f"{feature} has no examples of kind: {', '.join(empty)}; {reason}"
    return Failure("records", "too_few_examples", message)


def _rng(cfg: FeatureConfig, purpose: str, feature: FeatureId) -> np.random.Generator:
    """One generator per choice: asking for more training examples leaves the test set as it is."""
    return derived_rng(cfg.seed, f"records.{purpose}", feature)
