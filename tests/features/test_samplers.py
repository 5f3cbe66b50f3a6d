"""Which windows are chosen: counts, quantiles, order, and no window twice."""

from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.features.config import FeatureConfig, Sampling
from sae_auto_interp.features.samplers import quantile_of, sample_windows

SAMPLINGS = get_args(Sampling)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_hundred_windows_give_five_of_each_decile_with_falling_maxima() -> None:
    maxima = np.sort(rng(1).exponential(size=100))[::-1]
    sample = sample_windows(100, 50, 10, "quantile", rng())
    assert np.bincount(sample.quantiles).tolist() == [5] * 10
    assert (sample.indices // 10 == sample.quantiles).all()
    groups = [maxima[sample.indices[sample.quantiles == q]] for q in range(10)]
    assert all(high.min() >= low.max() for high, low in pairwise(groups))


@pytest.mark.parametrize("n_windows", [5, 10, 1000])
def test_fewer_examples_than_quantiles_are_an_error(n_windows: int) -> None:
    with pytest.raises(ConfigError, match="10 examples cannot cover 23 quantiles"):
        sample_windows(n_windows, 10, 23, "quantile", rng())


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
    sample = sample_windows(n_windows, n, n_quantiles, sampling, rng(seed))
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
    draws = [sample_windows(30, 10, 5, sampling, rng(seed)).indices for seed in range(60)]
    counts = np.bincount(np.concatenate(draws), minlength=30)
    assert counts.min() > 0
    free = counts[2:] if sampling == "mix" else counts
    assert free.max() < 3 * free.mean()
    assert len({tuple(draw) for draw in draws}) > 50


def test_random_windows_are_not_biased_to_the_strong() -> None:
    means = [sample_windows(1000, 40, 10, "random", rng(seed)).indices.mean() for seed in range(100)]
    assert abs(np.mean(means) - 499.5) < 4 * 289 / np.sqrt(40 * 100)


def test_bins_differ_by_one_at_most() -> None:
    assert np.bincount(quantile_of(np.arange(23), 23, 10)).tolist() == [3, 3, 3, 2, 2, 2, 2, 2, 2, 2]
    assert quantile_of(np.arange(3), 3, 10).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_test": 9}, "features.n_test=9 is less than n_quantiles=10"),
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
    with pytest.raises(ConfigError, match=r"features\.sampling='botom'; give one of top, random, quantile, mix"):
        config.__post_init__()


def test_few_examples_of_a_mix_are_possible() -> None:
    assert FeatureConfig(n_train=5).sampling == "mix"
    assert len(sample_windows(100, 5, 10, "mix", rng()).indices) == 5
