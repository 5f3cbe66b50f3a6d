"""Which windows become a feature's examples, and on which side: everything that chance decides about a record.

Validity is by construction: the documents are split first, then examples are drawn on each side. A selection is a few
small arrays and no text, so that it can be made in another process (`prefetch`).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from sae_auto_interp.features.config import FeatureConfig, NonActivatingKind, Sampling
from sae_auto_interp.features.constructors import ActiveWindows, activations_of
from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.features.negatives import NearFeature, Side, SilentDraw, neighbour_windows, token_windows
from sae_auto_interp.features.pools import Pool, joined, training_documents
from sae_auto_interp.features.samplers import quantile_edges, sample_windows
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Array, ExampleSource, Failure, FeatureEntries, FeatureId, FeatureStats, Shortage

POOLS = (
    "train", "test", "development",
    "non-activating for explaining", "non-activating for scoring", "non-activating for development",
)  # fmt: skip
"""Order of the examples: the activating ones first."""
N_ACTIVATING_POOLS = 3
HERE: tuple[NonActivatingKind, ...] = ("random", "neighbour", "token")
"""Kinds of silent windows that are chosen here; those alike in meaning need texts and a model (`similar`)."""
Near = Callable[[], Sequence[NearFeature]]
"""Looks up a feature's neighbours, nearest first; only a record that gets so far needs them."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen windows of a feature: those of each of `POOLS` in turn, `sizes` says how many."""

    feature: FeatureId
    stats: FeatureStats
    sizes: tuple[int, ...]
    windows: Pool
    activations: Float32[Array, "n window"]
    shortages: tuple[Shortage, ...]


def select_windows(
    entries: FeatureEntries, windows: ActiveWindows, grid: WindowGrid, cfg: FeatureConfig, near: Near = tuple
) -> Selection | Failure:
    """The windows of a feature's record, or the reason why there is none. Depends on nothing but the arguments.

    Silent windows of kind `similar` are not among them yet.
    """
    feature = entries.feature
    if len(windows) < cfg.min_examples:
        return _too_rare(feature, windows, cfg.min_examples)
    sides = sides_of(feature, windows, grid, cfg)
    samplings: tuple[Sampling, ...] = (cfg.sampling, cfg.test_sampling, cfg.test_sampling)
    wanted = zip(POOLS, sides, (cfg.n_train, cfg.n_test, cfg.n_dev), samplings, strict=False)
    active = [
        _sampled(windows, np.flatnonzero(side[windows.documents]), n, sampling, cfg, partial(_rng, cfg, name, feature))
        for name, side, n, sampling in wanted
    ]
    silent = _silent_pools(entries, windows, active, sides, grid, cfg, near)
    pools = [*active, *map(joined, silent)]
    return joined_selection(entries, pools, _stats(entries, windows, grid, cfg), cfg, HERE)


def joined_selection(
    entries: FeatureEntries,
    pools: Sequence[Pool],
    stats: FeatureStats,
    cfg: FeatureConfig,
    kinds: Collection[NonActivatingKind],
) -> Selection | Failure:
    """The selection of pools in the order of `POOLS`, whose silent windows are of some kinds so far."""
    problem = _problem(entries.feature, pools, cfg, kinds)
    if problem is not None:
        return problem
    windows = joined(pools)
    sizes = tuple(map(len, pools))
    activations = activations_of(entries, windows.starts, cfg.window)
    assert not activations[sum(sizes[:N_ACTIVATING_POOLS]) :].any(), (
        f"{entries.feature} fires in a window taken as silent"
    )
    return Selection(entries.feature, stats, sizes, windows, activations, _shortages(pools, cfg, kinds))


def sides_of(feature: FeatureId, windows: ActiveWindows, grid: WindowGrid, cfg: FeatureConfig) -> list[Side]:
    """The documents for explaining, for scoring and for development.

    Those for development are taken from the explainer's: whether they are asked for changes nothing in the test set.
    """
    n_documents = len(grid.rows.document_names)
    is_train = training_documents(windows.documents, n_documents, cfg.train_fraction, _rng(cfg, "documents", feature))
    is_dev: Bool[Array, " n_documents"] = np.zeros(n_documents, dtype=np.bool_)
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
    rng: Callable[[], np.random.Generator],
) -> Pool:
    """`n` of the windows of one side, which are given by their indices, highest maximum first."""
    if n == 0:
        return Pool.of_active(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int64))
    sample = sample_windows(windows.maxima[side], n, cfg.n_quantiles, sampling, rng())
    chosen = side[sample.indices]
    return Pool.of_active(windows.starts[chosen], windows.documents[chosen], sample.quantiles)


def _silent_pools(
    entries: FeatureEntries,
    windows: ActiveWindows,
    active: Sequence[Pool],
    sides: Sequence[Side],
    grid: WindowGrid,
    cfg: FeatureConfig,
    near: Near,
) -> list[list[Pool]]:
    """For each side the silent windows, kind by kind; the first kind is drawn on every side before the next."""
    feature = entries.feature
    draw = SilentDraw(windows.touched, grid, np.concatenate([pool.starts for pool in active]))
    rng = _rng(cfg, "non_activating", feature)
    pools = [
        [Pool.of_silent(draw.random(counts.get("random", 0), side, rng), grid, "random")]
        for counts, side in zip(cfg.silent_counts, sides, strict=True)
    ]
    neighbours = near() if cfg.asks_for("neighbour") else ()
    for kinds, counts, side in zip(pools, cfg.silent_counts, sides, strict=True):
        if counts.get("neighbour", 0):
            kinds.append(neighbour_windows(draw, neighbours, grid, side, counts["neighbour"]))
    for name, kinds, examples, counts, side in zip(POOLS, pools, active, cfg.silent_counts, sides, strict=False):
        if counts.get("token", 0):
            peaks = peak_tokens(entries, examples.starts, grid)
            rng = _rng(cfg, f"non_activating.token.{name}", feature)
            kinds.append(token_windows(draw, peaks, grid, side, counts["token"], rng))
    return pools


def peak_tokens(entries: FeatureEntries, starts: Int64[Array, " n"], grid: WindowGrid) -> Int32[Array, " n"]:
    """The token on which the feature is strongest in each of some windows."""
    places = activations_of(entries, starts, grid.window).argmax(axis=1)
    return grid.tokens_at(starts)[np.arange(len(starts)), places]


def _stats(entries: FeatureEntries, windows: ActiveWindows, grid: WindowGrid, cfg: FeatureConfig) -> FeatureStats:
    return FeatureStats(
        n_tokens=grid.n_text_tokens,
        n_activations=len(entries.activations),
        n_windows=grid.n_usable,
        n_active_windows=windows.n_on_grid,
        max_activation=float(entries.activations.max()),
        mean_activation=float(entries.activations.mean(dtype=np.float64)),
        n_near_duplicates=windows.n_near_duplicates,
        quantile_edges=quantile_edges(windows.maxima, cfg.n_quantiles),
    )


def _too_rare(feature: FeatureId, windows: ActiveWindows, min_examples: int) -> Failure:
    n_windows = len(windows)
    kind = "dead" if n_windows == 0 else "rare"
    left_out = f" ({windows.n_near_duplicates} more repeat these)" if windows.n_near_duplicates else ""
    message = f"{feature} fires in {n_windows} distinct windows{left_out}; min_examples is {min_examples}"
    return Failure("records", kind, message)


def _problem(
    feature: FeatureId, pools: Sequence[Pool], cfg: FeatureConfig, kinds: Collection[NonActivatingKind]
) -> Failure | None:
    """A record without examples for a purpose that is asked for could not be explained, or not be tested.

    A pool that is to hold more than these kinds is not known to be empty yet.
    """
    wanted = [cfg.n_train, cfg.n_test, cfg.n_dev]
    for counts in cfg.silent_counts:
        is_complete = all(kind in kinds for kind, n in counts.items() if n)
        wanted.append(sum(counts.values()) if is_complete else 0)
    empty = [name for name, n, pool in zip(POOLS, wanted, pools, strict=True) if n > 0 and len(pool) == 0]
    if not empty:
        return None
    reason = "it fires in too few documents, or in nearly every window"
    message = f"{feature} has no examples of kind: {', '.join(empty)}; {reason}"
    return Failure("records", "too_few_examples", message)


def _shortages(pools: Sequence[Pool], cfg: FeatureConfig, kinds: Collection[NonActivatingKind]) -> tuple[Shortage, ...]:
    """Return which activating and silent windows were fewer than requested."""
    wanted: list[tuple[ExampleSource, int]] = [("activating", n) for n in (cfg.n_train, cfg.n_test, cfg.n_dev)]
    by_pool = [[each] for each in wanted]
    for counts in cfg.silent_counts:
        silent: list[tuple[ExampleSource, int]] = [(kind, counts[kind]) for kind in kinds if counts.get(kind)]
        by_pool.append(silent)
    return tuple(
        Shortage(name, source, n, found)
        for name, pool, asked in zip(POOLS, pools, by_pool, strict=True)
        for source, n in asked
        if (found := pool.sources.count(source)) < n
    )


def _rng(cfg: FeatureConfig, purpose: str, feature: FeatureId) -> np.random.Generator:
    """One generator per choice: asking for more training examples leaves the test set as it is."""
    return derived_rng(cfg.seed, f"records.{purpose}", feature)
