"""Nothing that is shown to an explainer, or chose an explanation, is used for a score: over 500 features of the
demo."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, get_args

import jaxtyping
import numpy as np
import pytest

from sae_auto_interp.features import FeatureConfig, FeatureDataset, FeatureLoader
from sae_auto_interp.features.config import NonActivatingKind, Sampling
from sae_auto_interp.features.constructors import ActiveWindows, max_activation_pooling_sampler
from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.features.neighbours import Neighbours
from sae_auto_interp.features.selection import Selection
from sae_auto_interp.features.similar import WindowIndex, window_index, with_similar
from sae_auto_interp.pipeline.neighbours import neighbours_of
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.types import FeatureEntries, FeatureId
from tests.support.embedders import BagOfHashes

N_FEATURES = 500
WINDOW = 32
SIMILAR_POOL = 300
COUNTS: dict[str, Any] = {
    "n_train": 12, "n_test": 10, "n_dev": 10, "n_quantiles": 5, "min_examples": 20, "n_neighbours": 3,}  # fmt: skip
EVERY_KIND: dict[str, Any] = {
    f"n_non_activating_{side}": dict.fromkeys(get_args(NonActivatingKind), 3) for side in ("train", "test", "dev")
}
EMBEDDER = BagOfHashes()
PURPOSES = ((0, 3), (1, 4), (2, 5))
"""Active and silent pool of what is for explaining, for scoring, for development."""


@pytest.fixture(autouse=True)
def _unchecked_shapes() -> Iterator[None]:
    """Shapes are checked in all other tests; here, in some hundred thousand calls, that is most of the time."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def neighbours(demo: RunDirectory) -> list[Neighbours]:
    dataset = FeatureDataset(demo.features, FeatureConfig(**COUNTS))
    return neighbours_of(features_of(dataset), dataset, demo)


def features_of(dataset: FeatureDataset) -> list[FeatureId]:
    """The first 500 of all modules in turn that fire often enough for records on every side."""
    often = [
        [FeatureId(module, int(i)) for i in np.flatnonzero(reader.statistics()["n_activations"] >= 120)]
        for module, reader in dataset.readers.items()
    ]
    return [f for some in zip(*often, strict=False) for f in some][: N_FEATURES + 100]


def loader_of(
    demo: RunDirectory, neighbours: Sequence[Neighbours], constructor: Any = None, **settings: Any
) -> FeatureLoader:
    chosen: dict[str, Any] = COUNTS | {"similar_pool": SIMILAR_POOL} | settings
    dataset = FeatureDataset(demo.features, FeatureConfig(**chosen))
    return FeatureLoader(demo.load_tokens(), dataset, constructor, neighbours=neighbours)


POOLED: dict[FeatureId, ActiveWindows] = {}


def pooled_once(entries: FeatureEntries, grid: WindowGrid) -> ActiveWindows:
    """The windows of the grid, which are the same whatever is sampled from them."""
    if entries.feature not in POOLED:
        POOLED[entries.feature] = max_activation_pooling_sampler(entries, grid)
    return POOLED[entries.feature]


def check(selection: Selection, loader: FeatureLoader) -> None:
    """By hand: no document on two sides, no token and no run of 16 tokens in two examples, silence where it is said."""
    windows, grid = selection.windows, loader.grid
    ends = np.cumsum(selection.sizes)
    purpose = np.empty(ends[-1], np.int64)
    for i, pools in enumerate(PURPOSES):
        for pool in pools:
            purpose[ends[pool] - selection.sizes[pool] : ends[pool]] = i
    documents = [set(windows.documents[purpose == i].tolist()) for i in range(3)]
    assert all(one.isdisjoint(other) for one, other in combinations(documents, 2))
    assert (np.diff(np.sort(windows.starts)) > 0).all()
    texts = [row.tobytes() for row in grid.tokens_at(windows.starts)]  # four bytes per token
    runs = [run for text in texts for run in {text[i : i + 64] for i in range(0, len(text) - 63, 4)}]
    assert len(runs) == len(set(runs))
    locations = loader.dataset.entries(selection.feature).locations
    begins, after = np.searchsorted(locations, windows.starts), np.searchsorted(locations, windows.starts + WINDOW)
    assert (after > begins).tolist() == [True] * sum(selection.sizes[:3]) + [False] * sum(selection.sizes[3:])


@pytest.fixture(scope="module")
def index(demo: RunDirectory) -> WindowIndex:
    """Of the grid's windows, which are the same whatever is sampled."""
    loader = loader_of(demo, ())
    return asyncio.run(window_index(loader, loader.grid, EMBEDDER))


async def n_checked(loader: FeatureLoader, index: WindowIndex, n: int) -> tuple[int, Counter[str]]:
    """How many features of at most `n` have a record, each of them checked; and how many windows of each kind."""
    found, kinds = 0, Counter[str]()
    for feature in features_of(loader.dataset):
        selection = loader.select(feature)
        if isinstance(selection, Selection):
            selection = await with_similar(selection, loader, index, EMBEDDER)
        if isinstance(selection, Selection):
            check(selection, loader)
            kinds.update(selection.windows.sources)
            found += 1
        if found == n:
            break
    return found, kinds


@pytest.mark.parametrize("sampling", get_args(Sampling))
def test_no_window_and_no_document_is_on_two_sides(
    sampling: Sampling, demo: RunDirectory, neighbours: list[Neighbours], index: WindowIndex
) -> None:
    loader = loader_of(demo, neighbours, pooled_once, sampling=sampling, test_sampling=sampling, **EVERY_KIND)
    found, kinds = asyncio.run(n_checked(loader, index, N_FEATURES))
    assert found == N_FEATURES
    assert kinds.keys() == {"activating", *get_args(NonActivatingKind)}
    assert min(kinds.values()) > N_FEATURES


def test_nor_where_windows_are_centred(demo: RunDirectory, neighbours: list[Neighbours], index: WindowIndex) -> None:
    loader = loader_of(demo, neighbours, windows="centred", **EVERY_KIND)
    found, kinds = asyncio.run(n_checked(loader, index, 60))
    assert found == 60
    assert kinds.keys() == {"activating", *get_args(NonActivatingKind)}
