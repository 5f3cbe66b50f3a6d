"""Which windows are chosen: counts, quantiles, order, and no window twice."""

from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, strategies as st
from jaxtyping import Float32

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.features.config import FeatureConfig, Sampling
from sae_auto_interp.features.samplers import interval_sizes, quantile_edges, quantile_of, sample_windows
from sae_auto_interp.types import Array

SAMPLINGS = get_args(Sampling)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def maxima(n_windows: int) -> Float32[Array, " n_windows"]:
    """Distinct, highest first, with a long tail."""
    return (10 / np.arange(1, n_windows + 1)).astype(np.float32)


def test_a_hundred_windows_give_five_of_each_decile_with_falling_maxima() -> None:
    maxima = np.sort(rng(1).exponential(size=100))[::-1].astype(np.float32)
    sample = sample_windows(maxima, 50, 10, "quantile", rng())
    assert np.bincount(sample.quantiles).tolist() == [5] * 10
    assert (sample.indices // 10 == sample.quantiles).all()
    groups = [maxima[sample.indices[sample.quantiles == q]] for q in range(10)]
    assert all(high.min() >= low.max() for high, low in pairwise(groups))


@pytest.mark.parametrize("n_windows", [5, 10, 1000])
def test_fewer_examples_than_quantiles_are_an_error(n_windows: int) -> None:
    with pytest.raises(ConfigError, match="10 examples cannot cover 23 quantiles"):
        sample_windows(maxima(n_windows), 10, 23, "quantile", rng())


@given(
    n_windows=st.integers(0, 300),
    n=st.integers(1, 80),
    n_quantiles=st.integers(1, 12),
    sampling=st.sampled_from(SAMPLINGS),
    seed=st.integers(0, 99),
)
def test_samples_are_as_many_as_asked_for_each_once_in_order(
    n_windows: int, n: int, n_quantiles: int, sampling: Sampling, seed: int
) -> None:
    if sampling == "quantile":
        n = max(n, n_quantiles)
    sample = sample_windows(maxima(n_windows), n, n_quantiles, sampling, rng(seed))
    assert len(sample.indices) == len(sample.quantiles) == min(n, n_windows)
    assert sorted(set(sample.indices.tolist())) == sample.indices.tolist()
    assert all(0 <= i < n_windows for i in sample.indices)
    bins = np.array_split(np.arange(n_windows), n_quantiles)
    for index, quantile in zip(sample.indices, sample.quantiles, strict=True):
        assert index in bins[quantile]
    if sampling == "top":
        assert sample.indices.tolist() == list(range(min(n, n_windows)))
    if sampling == "mix" and n_windows > n:
        assert sample.indices[: n // 5].tolist() == list(range(n // 5))
    if sampling == "quantile" and n_windows > n and n_windows >= n_quantiles * -(-n // n_quantiles):
        counts = np.bincount(sample.quantiles, minlength=n_quantiles)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("sampling", ["random", "quantile", "mix"])
def test_every_window_can_be_drawn_and_draws_differ(sampling: Sampling) -> None:
    draws = [sample_windows(maxima(30), 10, 5, sampling, rng(seed)).indices for seed in range(60)]
    counts = np.bincount(np.concatenate(draws), minlength=30)
    assert counts.min() > 0
    free = counts[2:] if sampling == "mix" else counts
    assert free.max() < 3 * free.mean()
    assert len({tuple(draw) for draw in draws}) > 50


def test_random_windows_are_not_biased_to_the_strong() -> None:
    means = [sample_windows(maxima(1000), 40, 10, "random", rng(seed)).indices.mean() for seed in range(100)]
    assert abs(np.mean(means) - 499.5) < 4 * 289 / np.sqrt(40 * 100)


def test_bins_differ_by_one_at_most() -> None:
    assert np.bincount(quantile_of(np.arange(23), 23, 10)).tolist() == [3, 3, 3, 2, 2, 2, 2, 2, 2, 2]
    assert quantile_of(np.arange(3), 3, 10).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_test": 9}, "features.n_test=9 is less than n_quantiles=10"),
        ({"n_dev": 9}, "features.n_dev=9 is less than n_quantiles=10"),
        ({"n_train": 9, "sampling": "quantile"}, "features.n_train=9 is less than n_quantiles=10"),
        ({"window": 0}, "features.window=0; give at least 1"),
        ({"n_non_activating_test": -1}, "features.n_non_activating_test=-1; give at least 0"),
        ({"seed": -1}, "features.seed=-1; give at least 0"),
        ({"train_fraction": 1.0}, "between 0 and 1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FeatureConfig(**settings)


def test_a_mistyped_sampling_is_refused() -> None:
    config = FeatureConfig()
    object.__setattr__(config, "sampling", "botom")  # the tests' own type check would not let it through
    with pytest.raises(
        ConfigError, match=r"features\.sampling='botom'; give one of top, random, quantile, mix, interval, importance"
    ):
        config.__post_init__()


def test_few_examples_of_a_mix_are_possible() -> None:
    assert FeatureConfig(n_train=5).sampling == "mix"
    assert len(sample_windows(maxima(100), 5, 10, "mix", rng()).indices) == 5


def test_only_sampling_by_quantile_needs_an_example_of_each() -> None:
    assert FeatureConfig(n_test=3, test_sampling="interval").n_test == 3


def test_intervals_are_equally_wide() -> None:
    values = np.array([8, 7.9, 6.1, 6, 4.5, 4, 3, 2.1, 2, 1, 0.5], dtype=np.float32)
    assert interval_sizes(values, 4).tolist() == [3, 2, 3, 3]  # above 6, 4, 2 and 0
    assert interval_sizes(values, 1).tolist() == [11]


@pytest.mark.parametrize("seed", range(5))
def test_interval_sampling_sees_every_strength(seed: int) -> None:
    """Ten intervals of a long tail: the few strong windows are all taken, the weak ones share what is left evenly."""
    values = maxima(2000)
    sizes = interval_sizes(values, 10)
    chosen = sample_windows(values, 40, 10, "interval", rng(seed)).indices
    counts = np.bincount(np.searchsorted(np.cumsum(sizes), chosen, side="right"), minlength=10)
    assert counts.sum() == 40
    full = counts == sizes
    assert (counts <= sizes).all()
    assert np.ptp(counts[~full]) <= 1
    assert counts[full].max(initial=0) <= counts[~full].max()


def test_interval_sampling_equals_that_of_quantiles_where_maxima_are_even() -> None:
    values = np.arange(1000, 0, -1).astype(np.float32)
    chosen = sample_windows(values, 50, 10, "interval", rng())
    assert np.bincount(chosen.quantiles).tolist() == [5] * 10


def test_importance_is_the_squared_maximum() -> None:
    """The first of the draws without replacement has exactly these odds, and so has a single one."""
    values = np.array([4, 3, 2, 1], dtype=np.float32)
    n = 4000
    drawn = [int(sample_windows(values, 1, 1, "importance", rng(seed)).indices[0]) for seed in range(n)]
    expected = values.astype(float) ** 2 / (values.astype(float) ** 2).sum()
    found = np.bincount(drawn, minlength=4) / n
    assert np.abs(found - expected).max() < 4 * np.sqrt(0.25 / n)


def test_edges_of_quantiles_are_the_maxima_at_their_ends() -> None:
    values = np.arange(20, 0, -1).astype(np.float32)
    assert quantile_edges(values, 4) == (20, 15, 10, 5, 1)
    assert quantile_edges(values[:2], 4) == (20, 19, 19, 19, 19)
