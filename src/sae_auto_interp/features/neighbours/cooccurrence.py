"""The features that fire together most: Jaccard index and pointwise mutual information, counted in a finished cache.

For two features that fire in n_a and n_b of n_units units of text (tokens, windows or rows), and in n_ab of them both,

    Jaccard = n_ab / (n_a + n_b - n_ab)                          Jaccard 1912
    PMI     = ln( n_ab * n_units / (n_a * n_b) )                 Church and Hanks 1990

Counts are whole numbers from products of sparse binary matrices, a block of other features against a block of those
asked for. Each feature's units are read when its block comes; memory is that of two blocks, at any width and length of
text. Only pairs that fire together are neighbours.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, SupportsIndex, TypeAlias

import numpy as np
from jaxtyping import Float32, Float64, Int, Int32, Int64
from scipy import sparse

from sae_auto_interp.cache.opening import Reader, activation_counts
from sae_auto_interp.errors import InputError
from sae_auto_interp.features.neighbours import check_n, chosen_features
from sae_auto_interp.features.neighbours.running_top import NO_COLUMN, RunningTop
from sae_auto_interp.types import NO_DOCUMENT, Array

BLOCK_ENTRIES = 1 << 21
"""Activations held at a time, of each of the two blocks; a denser feature is a block by itself."""
BLOCK_PAIRS = 1 << 21
"""Pairs of features counted at a time."""
ASKED_FEATURES = 2048
"""Features asked for that are counted in one pass over the cache."""
PMI_MIN_COUNT = 6
"""Church and Hanks (1990) found the ratio unstable for pairs seen five times or fewer."""
Key: TypeAlias = "Callable[[Array, Array, Array], Array]"
"""(n_ab, n_a, n_b) -> what the neighbours of a are ranked by."""


def jaccard_neighbours(
    reader: Reader,
    n: int,
    *,
    features: Iterable[SupportsIndex] | None = None,
    among: Iterable[SupportsIndex] | None = None,
    unit_tokens: int = 1,
    min_count: int = 1,
    block_entries: int = BLOCK_ENTRIES,
) -> tuple[Int64[Array, "m n"], Float32[Array, "m n"]]:
    """The n features with the highest Jaccard index with each of `features` (None: all), and the indices; best first.

    `among` are the features that may be neighbours; None: all.
    `unit_tokens` is the size of the units that "together" means: 1 for the same token, ctx_len for the same row,
    anything between for the same window of that many tokens on each row's grid. Pairs that share fewer than `min_count`
    units are left out. A feature is never its own neighbour; of equal values the lower index comes first; where there
    are fewer than n, as for features that never fire, the rest is -1 and NaN. `block_entries` decides memory and speed,
    and nothing else. Raises `InputError` for a wrong number or feature.
    """
    width = reader.manifest.width
    others = np.sort(chosen_features(among, width))
    asked = _Question(reader, n, chosen_features(features, width), others, unit_tokens, min_count)
    indices, keys, _ = _nearest(asked, block_entries, lambda n_ab, n_a, n_b: n_ab / (n_a + n_b - n_ab))
    return indices, keys.astype(np.float32)


def pmi_neighbours(
    reader: Reader,
    n: int,
    n_units: int,
    *,
    features: Iterable[SupportsIndex] | None = None,
    unit_tokens: int = 1,
    min_count: int = PMI_MIN_COUNT,
    block_entries: int = BLOCK_ENTRIES,
) -> tuple[Int64[Array, "m n"], Float32[Array, "m n"]]:
    """As `jaccard_neighbours`, by pointwise mutual information in nats.

    `n_units` is the number of units with text (`n_text_units`). The ratio is unstable for rare pairs, and without
    `min_count` features that fired once, together, would come first. Raises `InputError` also when a feature fires in
    more units than `n_units`.
    """
    width = reader.manifest.width
    others = chosen_features(None, width)
    asked = _Question(reader, n, chosen_features(features, width), others, unit_tokens, min_count)
    # Among the neighbours of one a, n_ab / n_b orders as PMI does, and is one correctly rounded division: ties tie.
    indices, keys, counts = _nearest(asked, block_entries, lambda n_ab, _, n_b: n_ab / n_b)
    if counts.max(initial=0) > n_units:
        raise InputError(f"a feature fires in {counts.max()} units, but n_units={n_units}; give all units with text")
    n_a = counts[asked.features]
    probabilities = np.divide(n_units, n_a, out=np.full(len(n_a), np.nan), where=n_a > 0)
    return indices, np.log(keys * probabilities[:, None]).astype(np.float32)


def n_text_units(documents: Int32[Array, "n_rows ctx_len"], unit_tokens: int = 1) -> int:
    """How many units hold text: a unit of padding and special tokens alone is none that a feature could fire in."""
    _check_unit(unit_tokens)
    is_text = documents != NO_DOCUMENT
    if not is_text.size:
        return 0
    firsts = list(range(0, documents.shape[1], unit_tokens))
    return int(np.logical_or.reduceat(is_text, firsts, axis=1).sum())


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked of a cache, checked."""

    reader: Reader
    n: int
    features: Int64[Array, " m"]
    others: Int64[Array, " k"]
    """That may be neighbours, ascending."""
    unit_tokens: int
    min_count: int

    def __post_init__(self) -> None:
        check_n(self.n)
        _check_unit(self.unit_tokens)
        if self.min_count < 1:
            raise InputError(
                f"min_count={self.min_count}; give at least 1: pairs that never fire together are no pairs"
            )


@dataclass(frozen=True, slots=True)
class _Block:
    """Some features and the units in which each fires."""

    features: Int64[Array, " b"]
    units: Int64[Array, " k"]
    """Feature after feature, each feature's in ascending order and without repetition."""
    offsets: Int64[Array, " b_plus_1"]

    @property
    def counts(self) -> Int64[Array, " b"]:
        return np.diff(self.offsets)


def _nearest(
    question: _Question, block_entries: int, key: Key
) -> tuple[Int64[Array, "m n"], Float64[Array, "m n"], Int64[Array, " width"]]:
    """Neighbours and keys (-1 and NaN where there are none), and the number of units of every feature that was read."""
    if block_entries < 1:
        raise InputError(f"block_entries={block_entries}; give at least 1")
    n_activations = activation_counts(question.reader)
    shape = len(question.features), question.n
    indices, keys = np.full(shape, -1, dtype=np.int64), np.full(shape, np.nan)
    counts = np.zeros(len(n_activations), dtype=np.int64)
    others = question.others[n_activations[question.others] >= question.min_count]
    rows = np.argsort(question.features)  # as they lie on disk
    rows = rows[n_activations[question.features[rows]] >= question.min_count]
    for places in _blocks(rows, n_activations[question.features], block_entries, ASKED_FEATURES):
        asked = _Asked.of(_read(question, question.features[places]))
        counts[asked.features] = asked.counts
        top = RunningTop(len(places), question.n)
        for part in _blocks(others, n_activations, block_entries, max(1, BLOCK_PAIRS // len(places))):
            block = _read(question, part)
            counts[part] = block.counts
            _offer(top, asked, block, question.min_count, key)
        columns, found = top.best()
        is_found = columns != NO_COLUMN
        indices[places], keys[places] = np.where(is_found, columns, -1), np.where(is_found, found, np.nan)
    return indices, keys, counts


def _offer(top: RunningTop, asked: "_Asked", block: _Block, min_count: int, key: Key) -> None:
    """Rank the features of `block` among the neighbours of those asked for."""
    n_ab, rows, others = asked.together_with(block)
    is_pair = (n_ab >= min_count) & (asked.features[rows] != block.features[others])
    n_ab, rows, others = n_ab[is_pair], rows[is_pair], others[is_pair]
    keys = key(n_ab, asked.counts[rows], block.counts[others])
    is_above = keys > top.threshold[rows]
    if is_above.any():
        top.offer(rows[is_above], block.features[others[is_above]], keys[is_above])


@dataclass(frozen=True, slots=True)
class _Asked:
    """A block of features asked for, ready to be multiplied.

    Units are numbered among those that any of these features fires in: the matrices have no more columns than
    entries, however long the text, and every index fits 32 bits.
    """

    features: Int64[Array, " a"]
    counts: Int64[Array, " a"]
    units: Int64[Array, " u"]
    fires: Any
    """Sparse [u, a] of ones."""

    @classmethod
    def of(cls, block: _Block) -> "_Asked":
        units = np.unique(block.units)
        fires = _binary(np.searchsorted(units, block.units), block.offsets, len(units)).T.tocsr()
        return cls(block.features, block.counts, units, fires)

    def together_with(self, block: _Block) -> tuple[Int64[Array, " k"], Int32[Array, " k"], Int64[Array, " k"]]:
        """Return, for every pair that shares a unit: the number of shared units, its place here and its place in
        `block`.

        In the order of the block's features.
        """
        places = np.searchsorted(self.units, block.units)
        is_shared = self.units[np.minimum(places, len(self.units) - 1)] == block.units
        offsets = np.concatenate([[0], np.cumsum(is_shared)])[block.offsets]
        counts = _binary(places[is_shared], offsets, len(self.units)) @ self.fires
        others = np.repeat(np.arange(len(block.features)), np.diff(counts.indptr))
        return counts.data.astype(np.int64), counts.indices, others


def _binary(columns: Int[Array, " k"], offsets: Int64[Array, " b_plus_1"], n_columns: int) -> Any:
    """A sparse matrix of ones, one row per feature."""
    ones = np.ones(len(columns), dtype=np.int32)
    shape = len(offsets) - 1, n_columns
    return sparse.csr_array((ones, columns.astype(np.int32), offsets.astype(np.int32)), shape=shape)


def _read(question: _Question, features: Int64[Array, " b"]) -> _Block:
    units = [_units(question, int(feature)) for feature in features]
    offsets = np.zeros(len(units) + 1, dtype=np.int64)
    np.cumsum([len(piece) for piece in units], out=offsets[1:])
    return _Block(features, np.concatenate(units), offsets)


def _units(question: _Question, feature: int) -> Int64[Array, " k"]:
    """The units in which a feature fires, ascending, each once."""
    locations = question.reader.entries(feature).locations
    if question.unit_tokens == 1:
        return locations
    ctx_len = question.reader.manifest.ctx_len
    rows, positions = np.divmod(locations, ctx_len)
    units = rows * -(-ctx_len // question.unit_tokens) + positions // question.unit_tokens
    return units[np.flatnonzero(np.diff(units, prepend=-1))]


def _blocks(
    chosen: Int64[Array, " k"], n_activations: Int64[Array, " all"], max_entries: int, max_features: int
) -> Iterator[Int64[Array, " b"]]:
    """`chosen` in pieces of at most so many features and activations; a denser feature is a piece by itself."""
    ends = np.cumsum(n_activations[chosen])
    begin = 0
    while begin < len(chosen):
        before = int(ends[begin - 1]) if begin else 0
        fits = int(np.searchsorted(ends, before + max_entries, side="right"))
        end = max(begin + 1, min(fits, begin + max_features))
        yield chosen[begin:end]
        begin = end


def _check_unit(unit_tokens: int) -> None:
    if unit_tokens < 1:
        raise InputError(f"unit_tokens={unit_tokens}; give 1 for tokens, ctx_len for rows, or the size of a window")
