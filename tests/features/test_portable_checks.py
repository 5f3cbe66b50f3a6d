"""Behaviour that any tool of this kind should have, on windows, centring, quantiles, splits and negatives.

The numbers are those of the list of checks that are portable between libraries.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.features import (
    FeatureConfig,
    FeatureDataset,
    FeatureLoader,
    max_activation_pooling_sampler,
    pool_centred_activation_windows,
)
from sae_auto_interp.features.config import Sampling, Windows
from sae_auto_interp.features.constructors import activations_of
from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.features.samplers import sample_windows
from sae_auto_interp.prompting.highlights import normalised_activations
from sae_auto_interp.types import Failure, FeatureEntries, FeatureId, FeatureRecord, TokenRows
from tests.support.records import Entry, plain_rows, write_cache

MODULE = "m"


def windows(
    n_tokens: int, window: int, active: dict[int, float], constructor: Any
) -> list[tuple[list[int], list[float]]]:
    """Tokens and activations of every window of one row, whose tokens count from 0; highest maximum first."""
    rows = TokenRows.from_ids(np.arange(n_tokens)[None])
    values = np.array([active[p] for p in sorted(active)], dtype=np.float32)
    entries = FeatureEntries(FeatureId(MODULE, 0), np.array(sorted(active), dtype=np.int64), values)
    grid = WindowGrid.over(rows, window)
    found = constructor(entries, grid)
    tokens, activations = grid.tokens_at(found.starts), activations_of(entries, found.starts, window)
    return list(zip(tokens.tolist(), activations.tolist(), strict=True))


def test_05_windows_pool_their_activations() -> None:
    rows = TokenRows.from_ids(np.arange(16).reshape(2, 8))
    entries = FeatureEntries(FeatureId(MODULE, 0), np.array([1, 3, 13]), np.array([1, 3, 2], dtype=np.float32))
    grid = WindowGrid.over(rows, 4)
    found = max_activation_pooling_sampler(entries, grid)
    assert grid.tokens_at(found.starts).tolist() == [[0, 1, 2, 3], [12, 13, 14, 15]]
    assert activations_of(entries, found.starts, 4).tolist() == [[0, 1, 0, 3], [0, 2, 0, 0]]
    assert found.maxima.tolist() == [3, 2]


def test_06_a_centred_window_has_its_peak_a_quarter_before_the_end() -> None:
    assert windows(24, 8, {11: 5.0}, pool_centred_activation_windows) == [
        ([5, 6, 7, 8, 9, 10, 11, 12], [0, 0, 0, 0, 0, 0, 5, 0])
    ]


def test_06_a_centred_window_keeps_the_weaker_activations_around_its_peak() -> None:
    assert windows(24, 8, {6: 1.0, 11: 5.0}, pool_centred_activation_windows)[0] == (
        [5, 6, 7, 8, 9, 10, 11, 12], [0, 1, 0, 0, 0, 0, 5, 0],
    )  # fmt: skip


def test_06_a_second_centred_window_shows_the_peak_of_the_first() -> None:
    first, second = windows(32, 8, {11: 5.0, 17: 4.0}, pool_centred_activation_windows)
    assert first == ([5, 6, 7, 8, 9, 10, 11, 12], [0, 0, 0, 0, 0, 0, 5, 0])
    assert second == ([11, 12, 13, 14, 15, 16, 17, 18], [5, 0, 0, 0, 0, 0, 4, 0])


def test_06_no_activation_of_a_centred_window_is_lost_or_invented() -> None:
    found = windows(32, 8, {11: 5.0, 12: 2.0, 17: 4.0, 22: 3.9}, pool_centred_activation_windows)
    assert ([11, 12, 13, 14, 15, 16, 17, 18], [5, 2, 0, 0, 0, 0, 4, 0]) in found


SIZES = (90, 200, 1000, 5000)
N_SILENT = (0, 1, 30, 500)


def entries_at(locations: Any, ctx_len: int, feature: int) -> list[Entry]:
    values = np.random.default_rng(0).exponential(size=len(locations)).astype(np.float16) + np.float16(0.01)
    rows, positions = np.divmod(locations, ctx_len)
    return [(int(r), int(p), feature, float(v)) for r, p, v in zip(rows, positions, values, strict=True)]


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[TokenRows, Path]]:
    """Features that fire once per row; in SIZES[i] of 8000 windows; in all but N_SILENT[i] of 1000 windows."""
    rng = np.random.default_rng(1)
    once, sizes, silent = plain_rows(300, 64), plain_rows(2000, 32), plain_rows(1000, 8)
    order = rng.permutation(1000)
    entries = {
        "once": (once, [(np.arange(300) * 64 + rng.integers(12, 60, 300))]),
        "sizes": (sizes, [np.sort(rng.choice(8000, size, replace=False)) * 8 + 3 for size in SIZES]),
        "silent": (silent, [np.sort(order[n:]) * 8 + 6 for n in N_SILENT]),
    }
    made: dict[str, tuple[TokenRows, Path]] = {}
    for name, (rows, locations) in entries.items():
        found = [entry for i, at in enumerate(locations) for entry in entries_at(at, rows.ctx_len, i)]
        root = tmp_path_factory.mktemp(name)
        made[name] = rows, write_cache(root, rows, {MODULE: found}, width=len(locations), rows_per_run=1000)
    return made


def record_of(cache: tuple[TokenRows, Path], feature: int, **settings: Any) -> FeatureRecord | Failure:
    rows, root = cache
    return FeatureLoader(rows, FeatureDataset(root, FeatureConfig(window=8, **settings))).build(
        FeatureId(MODULE, feature)
    )


@pytest.mark.parametrize("kind", get_args(Windows))
def test_07_centring_is_what_its_name_says(kind: Windows, caches: dict[str, tuple[TokenRows, Path]]) -> None:
    """Peaks far from each other and from the ends of rows: centred, they are all at one index, else on a grid."""
    record = record_of(caches["once"], 0, windows=kind)
    assert isinstance(record, FeatureRecord)
    peaks = {int(example.activations.argmax()) for example in (*record.train, *record.test)}
    starts = {example.start % 8 for example in (*record.train, *record.test)}
    assert (peaks, len(starts)) == ({6}, 8) if kind == "centred" else (peaks, starts) == (set(range(8)), {0})


def test_08_quantiles_are_even_and_in_order() -> None:
    maxima = np.sort(np.random.default_rng(1).exponential(size=100))[::-1].astype(np.float32)
    sample = sample_windows(maxima, 50, 10, "quantile", np.random.default_rng(0))
    assert np.bincount(sample.quantiles).tolist() == [5] * 10
    groups = [maxima[sample.indices[sample.quantiles == q]] for q in range(10)]
    assert all(high.min() >= low.max() for high, low in pairwise(groups))


def test_08_fewer_examples_than_quantiles_are_refused() -> None:
    with pytest.raises(ConfigError, match="10 examples cannot cover 23 quantiles"):
        sample_windows(np.ones(100, np.float32), 10, 23, "quantile", np.random.default_rng(0))


@pytest.mark.parametrize("feature", range(len(SIZES)))
@pytest.mark.parametrize("kind", get_args(Windows))
@pytest.mark.parametrize("sampling", get_args(Sampling))
def test_09_train_and_test_are_disjoint(
    sampling: Sampling, kind: Windows, feature: int, caches: dict[str, tuple[TokenRows, Path]]
) -> None:
    record = record_of(caches["sizes"], feature, sampling=sampling, windows=kind)
    assert isinstance(record, FeatureRecord)
    train, test = ({e.tokens.tobytes() for e in pool} for pool in (record.train, record.test))
    assert (len(train), len(record.train), len(test)) == (40, 40, len(record.test))
    assert not train & test
    assert not {e.document for e in record.train} & {e.document for e in record.test}


def test_10_activations_are_written_as_whole_numbers_to_ten() -> None:
    """The list has delphi's ceiling, by which 0.01 of 10 is 1; ours is the floor of OpenAI's neuron-explainer."""
    assert normalised_activations(np.array([0, 0.01, 5, 10], dtype=np.float32), 10) == [0, 0, 5, 10]
    assert normalised_activations(np.zeros(4, dtype=np.float32), 0) == [0, 0, 0, 0]


@pytest.mark.parametrize("kind", get_args(Windows))
@pytest.mark.parametrize("feature", range(len(N_SILENT)))
def test_21_negatives_are_silent_distinct_and_as_many_as_there_are(
    feature: int, kind: Windows, caches: dict[str, tuple[TokenRows, Path]]
) -> None:
    """Rows of one window, so that windows around peaks are those of the grid."""
    record = record_of(caches["silent"], feature, windows=kind)
    if N_SILENT[feature] < 2:  # then one side has none
        assert isinstance(record, Failure)
        assert (record.stage, record.kind) == ("records", "too_few_examples")
        return
    assert isinstance(record, FeatureRecord)
    entries = FeatureDataset(caches["silent"][1]).entries(FeatureId(MODULE, feature))
    shown = [example.row for pool in (record.non_activating.explain, record.non_activating.test) for example in pool]
    assert len(set(shown)) == len(shown) == min(40 + 50, N_SILENT[feature])
    assert not set(shown) & set((entries.locations // 8).tolist())
