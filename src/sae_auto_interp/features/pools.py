"""Chosen windows of one purpose, before their text is read.

Which documents may be shown to the explainer, and which are for scoring.

The unit is the document, per feature: two windows of one document share topic, author and words, so a test window
from a document that the explainer saw would be half known. Documents in which the feature fires are dealt so that
each side gets its share of active windows; the others are dealt at random.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Int32, Int64

from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.types import Array, ExampleSource, FeatureId


@dataclass(frozen=True, slots=True)
class Pool:
    """Windows and where each comes from; quantiles are those of activating windows, and none has them otherwise."""

    starts: Int64[Array, " n"]
    """Flat token index of each window's first token."""
    documents: Int32[Array, " n"]
    quantiles: Int64[Array, " n_activating"]
    sources: tuple[ExampleSource, ...]
    neighbours: tuple[FeatureId | None, ...]
    distances: tuple[float | None, ...]

    @classmethod
    def of_active(
        cls, starts: Int64[Array, " n"], documents: Int32[Array, " n"], quantiles: Int64[Array, " n"]
    ) -> "Pool":
        nothing = (None,) * len(starts)
        return cls(starts, documents, quantiles, ("activating",) * len(starts), nothing, nothing)

    @classmethod
    def of_silent(
        cls,
        windows: Int64[Array, " n"],
        grid: WindowGrid,
        source: ExampleSource,
        neighbours: tuple[FeatureId | None, ...] | None = None,
        distances: tuple[float | None, ...] | None = None,
    ) -> "Pool":
        """Windows of the grid in which the feature does not fire."""
        nothing = (None,) * len(windows)
        return cls(
            grid.starts_of(windows), grid.documents[windows], np.empty(0, np.int64), (source,) * len(windows),
            nothing if neighbours is None else neighbours, nothing if distances is None else distances,
        )  # fmt: skip

    def parts(self, sizes: Sequence[int]) -> "list[Pool]":
        """The pools of these sizes that it is made of; those of activating windows come first."""
        ends = np.cumsum(sizes).tolist()
        return [self._part(slice(end - size, end)) for size, end in zip(sizes, ends, strict=True)]

    def _part(self, part: slice) -> "Pool":
        return Pool(*(getattr(self, field.name)[part] for field in fields(self)))

    def __len__(self) -> int:
        return len(self.starts)


def joined(pools: Sequence[Pool]) -> Pool:
    """One pool after the other."""
    if len(pools) == 1:
        return pools[0]
    return Pool(
        starts=np.concatenate([pool.starts for pool in pools]),
        documents=np.concatenate([pool.documents for pool in pools]),
        quantiles=np.concatenate([pool.quantiles for pool in pools]),
        sources=sum((pool.sources for pool in pools), ()),
        neighbours=sum((pool.neighbours for pool in pools), ()),
        distances=sum((pool.distances for pool in pools), ()),
    )


def training_documents(
    active_documents: Int32[Array, " n_active_windows"],
    n_documents: int,
    train_fraction: float,
    rng: np.random.Generator,
) -> Bool[Array, " n_documents"]:
    """True for the documents of the explainer's side; `active_documents` has one entry per active window.

    The fullest documents are dealt first, each to the side that is behind its share; chance decides when neither is.
    Which of the equally full ones go to a side is chance, so only their number matters, and they are dealt at once.
    """
    is_train = rng.random(n_documents) < train_fraction
    documents, counts = np.unique(active_documents, return_counts=True)
    order = rng.permutation(len(documents))
    order = order[np.argsort(-counts[order], kind="stable")]
    sizes, n_alike = np.unique(counts, return_counts=True)
    n_dealt = n_train = begin = 0
    for size, alike in zip(sizes[::-1].tolist(), n_alike[::-1].tolist(), strict=True):
        missing = (n_dealt + (alike - 1) * size) * train_fraction - n_train  # when all but the last are dealt
        n_to_train = min(max(_rounded_up(missing / size, train_fraction, rng), 0), alike)
        is_train[documents[order[begin : begin + alike]]] = np.arange(alike) < n_to_train
        begin += alike
        n_dealt += alike * size
        n_train += n_to_train * size
    return is_train


def _rounded_up(n: float, chance: float, rng: np.random.Generator) -> int:
    """The next whole number; from a whole number, which means that neither side is behind, go on by `chance`."""
    nearest = round(n)
    is_whole = abs(n - nearest) < 1e-9
    return nearest + int(rng.random() < chance) if is_whole else math.ceil(n)
