"""The bootstrap against scipy's, against theory, and in simulation."""

import numpy as np
import pytest
from scipy import stats

from sae_auto_interp.metrics import Resampling, bootstrap_estimate
from sae_auto_interp.metrics.bootstrap import BootstrapMethod, Statistic, resampled_values
from sae_auto_interp.metrics.rates import mean_statistic
from tests.metrics.scores import assert_covers, count_covered, known


def estimate(statistic: Statistic, n: int, seed: int = 0, **settings):
    resampling = Resampling(n_units=n, unit="features", **settings)
    return bootstrap_estimate(
        statistic, resampling, np.random.default_rng(seed), n=n, n_failed=3, undefined="it is undefined"
    )


@pytest.mark.parametrize(("method", "theirs"), [("percentile", "percentile"), ("bca", "BCa")])
def test_intervals_are_those_of_scipy(method: BootstrapMethod, theirs: str) -> None:
    """Two runs of 20,000 resamples: a quantile of them has a standard error of about 2 % of the interval's width."""
    values = np.random.default_rng(1).exponential(size=40)
    ours = estimate(mean_statistic(values), 40, method=method, n_resamples=20_000)
    other = stats.bootstrap(
        (values,), np.mean, method=theirs, n_resamples=20_000, rng=np.random.default_rng(2)
    ).confidence_interval
    width = other.high - other.low
    density = stats.norm.pdf(stats.norm.ppf(0.025)) * 2 * stats.norm.ppf(0.975) / width
    error = np.sqrt(2 * 0.025 * 0.975 / 20_000) / density
    assert ours.value == pytest.approx(values.mean())
    assert ours.low == pytest.approx(other.low, abs=4 * error)
    assert ours.high == pytest.approx(other.high, abs=4 * error)
    assert (ours.n, ours.n_failed, ours.level) == (40, 3, 0.95)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_bootstrap_over_features_covers(method: BootstrapMethod) -> None:
    """2000 runs of 80 features with skewed scores, Beta(6, 2)."""
    rng = np.random.default_rng(12)
    runs = [mean_statistic(scores) for scores in rng.beta(6.0, 2.0, size=(2000, 80))]
    resampling = Resampling(n_units=80, unit="features", n_resamples=500, method=method)
    assert_covers(count_covered(runs, 0.75, resampling, rng), 2000)


def test_stratified_bootstrap_covers() -> None:
    """2000 runs of three modules of 30 features with means .6, .7 and .8."""
    rng = np.random.default_rng(13)
    strata = np.repeat([0, 1, 2], 30)
    means = np.array([0.6, 0.7, 0.8])[strata]
    runs = [mean_statistic(means + noise) for noise in rng.normal(0.0, 0.05, size=(2000, 90))]
    resampling = Resampling(n_units=90, unit="features", n_resamples=500, strata=strata)
    assert_covers(count_covered(runs, 0.7, resampling, rng), 2000)


def test_strata_make_the_interval_narrower_where_modules_differ() -> None:
    """How many features each module gives is then not left to chance: the spread within modules counts alone."""
    strata = np.repeat([0, 1, 2], 30)
    values = np.array([0.6, 0.7, 0.8])[strata] + np.random.default_rng(1).normal(0.0, 0.05, size=90)
    stratified = estimate(mean_statistic(values), 90, strata=strata)
    found, plain = known(stratified), known(estimate(mean_statistic(values), 90))
    within = np.mean([values[strata == label].var() for label in range(3)])
    assert found.high - found.low == pytest.approx(3.92 * np.sqrt(within / 90), rel=0.05)
    assert plain.high - plain.low == pytest.approx(3.92 * values.std() / np.sqrt(90), rel=0.05)
    assert stratified.method == "percentile bootstrap over features, stratified"
    bca = known(estimate(mean_statistic(values), 90, strata=strata, method="bca"))
    assert bca.high - bca.low == pytest.approx(found.high - found.low, rel=0.1)


def test_strata_keep_their_sizes() -> None:
    strata = np.array([5, 5, 7, 7, 7])
    sizes = []

    def statistic(weights):
        sizes.append(weights)
        return weights.sum(axis=1)

    resampled_values(
        statistic, Resampling(n_units=5, unit="features", strata=strata, n_resamples=50), np.random.default_rng(0)
    )
    (weights,) = sizes
    assert (weights[:, :2].sum(axis=1) == 2).all()
    assert (weights[:, 2:].sum(axis=1) == 3).all()


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_none_one_equal_and_undefined(method: BootstrapMethod) -> None:
    nothing = estimate(mean_statistic(np.zeros(0)), 0, method=method)
    assert (nothing.value, nothing.low, nothing.reason) == (None, None, "it is undefined")
    one = estimate(mean_statistic(np.array([0.4])), 1, method=method)
    assert (one.value, one.low) == (0.4, None)
    assert "not enough to resample" in (one.reason or "")
    equal = estimate(mean_statistic(np.full(30, 0.1)), 30, method=method, n_resamples=100)
    assert equal.value == pytest.approx(0.1)
    assert (equal.low, equal.high) == (None, None)
    assert "same value" in (equal.reason or "")
    often = estimate(lambda w: np.where(w[:, 0] > 0, w[:, 0], np.nan), 30, method=method, n_resamples=100)
    assert (often.value, often.low) == (1.0, None)
    assert "undefined in" in (often.reason or "")
    never = estimate(lambda w: np.full(len(w), np.nan), 30, method=method, n_resamples=100)
    assert (never.value, never.reason) == (None, "it is undefined")


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).random(25)
    assert estimate(mean_statistic(values), 25, seed=4) == estimate(mean_statistic(values), 25, seed=4)
