"""Chosen windows of one purpose, before their text is read."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Int32, Int64

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
