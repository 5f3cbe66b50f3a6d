"""Intervals against scipy, against exact coverage, and in simulation."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from sae_auto_interp.metrics import (
    Interval,
    bootstrap_mean,
    clopper_pearson,
    mover_mean_of_two,
    square_and_add,
    upper_bound,
    wilson,
)
from sae_auto_interp.metrics.bootstrap import resampled_means


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 10), (10, 10), (3, 7), (50, 100), (1, 1000)])
def test_wilson_equals_scipy(successes: int, n: int, level: float) -> None:
    expected = stats.binomtest(successes, n).proportion_ci(confidence_level=level, method="wilson")
    interval = wilson(successes, n, level)
    assert interval.low == pytest.approx(expected.low, abs=1e-12)
    assert interval.high == pytest.approx(expected.high, abs=1e-12)


def test_wilson_without_trials_says_nothing() -> None:
    assert wilson(0, 0) == Interval(0.0, 1.0)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 50), (10, 10), (3, 7), (50, 100), (1, 1000)])
def test_clopper_pearson_equals_scipy(successes: int, n: int, level: float) -> None:
    expected = stats.binomtest(successes, n).proportion_ci(confidence_level=level, method="exact")
    interval = clopper_pearson(successes, n, level)
    assert interval.low == pytest.approx(expected.low, abs=1e-9)
    assert interval.high == pytest.approx(expected.high, abs=1e-9)


def test_upper_bounds_of_a_false_positive_rate() -> None:
    """METHODS: 0 of 50 leaves up to .058, 0 of 1000 up to .003."""
    assert upper_bound(0, 50) == pytest.approx(0.058, abs=5e-4)
    assert upper_bound(0, 1000) == pytest.approx(0.003, abs=5e-5)
    assert upper_bound(0, 50) == pytest.approx(1 - 0.05 ** (1 / 50))
    assert upper_bound(0, 0) == upper_bound(3, 3) == 1.0
    assert clopper_pearson(0, 0) == Interval(0.0, 1.0)


RATES = np.linspace(0.01, 0.99, 99)


def exact_coverage(interval: Callable[[int, int], Interval], n: int) -> np.ndarray:
    """Probability that the interval of a binomial(n, p) count holds p, for each p of RATES."""
    bounds = [interval(k, n) for k in range(n + 1)]
    low, high = np.array([b.low for b in bounds]), np.array([b.high for b in bounds])
    holds = (low[:, None] <= RATES) & (high[:, None] >= RATES)
    return (holds * stats.binom.pmf(np.arange(n + 1)[:, None], n, RATES)).sum(axis=0)


@pytest.mark.parametrize("n", [10, 25, 50, 100])
def test_clopper_pearson_never_covers_less_than_it_says(n: int) -> None:
    assert exact_coverage(clopper_pearson, n).min() >= 0.95


@pytest.mark.parametrize("n", [10, 25, 50, 100])
def test_wilson_covers_at_its_nominal_rate_on_average(n: int) -> None:
    """Exact. At a single rate counts are too coarse for any interval to hit 95 %; on average over rates it does."""
    assert 0.93 <= exact_coverage(wilson, n).mean() <= 0.97


def test_mover_of_symmetric_intervals_is_the_sum_in_quadrature() -> None:
    interval = mover_mean_of_two(0.6, Interval(0.5, 0.7), 0.8, Interval(0.5, 0.9))
    assert interval.low == pytest.approx(0.7 - np.hypot(0.1, 0.3) / 2)
    assert interval.high == pytest.approx(0.7 + np.hypot(0.1, 0.1) / 2)


def test_square_and_add_of_a_linear_function_is_mover() -> None:
    arguments = (0.6, Interval(0.41, 0.77), 0.9, Interval(0.6, 0.95))
    walked = square_and_add(lambda a, b: (a + b) / 2, *arguments)
    closed = mover_mean_of_two(*arguments)
    assert walked.low == pytest.approx(closed.low, abs=1e-4)
    assert walked.high == pytest.approx(closed.high, abs=1e-4)


@pytest.mark.parametrize(("true_tpr", "true_tnr"), [(0.5, 0.5), (0.8, 0.7), (0.9, 0.9), (0.6, 0.95)])
def test_mover_covers_at_its_nominal_rate(true_tpr: float, true_tnr: float) -> None:
    """Exact: every outcome of 50 + 50 trials, weighted by its binomial probability."""
    n = 50
    counts = np.arange(n + 1)
    rates = [(k / n, wilson(int(k), n)) for k in counts]
    truth = (true_tpr + true_tnr) / 2
    covered = np.array(
        [[(i := mover_mean_of_two(*p, *q)).low <= truth <= i.high for q in rates] for p in rates], dtype=float
    )
    weights = np.outer(stats.binom.pmf(counts, n, true_tpr), stats.binom.pmf(counts, n, true_tnr))
    assert 0.93 <= (covered * weights).sum() <= 0.97


def test_bootstrap_covers_at_its_nominal_rate() -> None:
    """2000 runs of 80 features: at coverage 0.95 the share covered has SE 0.0049, so 0.02 is four of them.

    Scores are skewed, as those of features are: Beta(6, 2) has mean 0.75 and standard deviation 0.14.
    """
    n_runs, rng = 2000, np.random.default_rng(11)
    covered = 0
    for scores in rng.beta(6.0, 2.0, size=(n_runs, 80)):
        interval = bootstrap_mean(scores, rng, n_resamples=400)
        covered += interval.low <= 0.75 <= interval.high
    assert 0.93 <= covered / n_runs <= 0.97


def test_bootstrap_agrees_with_the_normal_theory_of_a_large_sample() -> None:
    values = np.random.default_rng(3).normal(0.7, 0.1, size=2000)
    interval = bootstrap_mean(values, np.random.default_rng(0))
    half = 1.96 * values.std() / np.sqrt(2000)
    assert interval.low == pytest.approx(values.mean() - half, abs=0.03 * half * 2)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.03 * half * 2)


def test_bootstrap_does_not_depend_on_the_size_of_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = np.random.default_rng(1).normal(size=(7, 2))
    whole = resampled_means(columns, np.random.default_rng(5), 100)
    monkeypatch.setattr("sae_auto_interp.metrics.bootstrap._DRAWS_PER_CHUNK", 21)
    chunked = resampled_means(columns, np.random.default_rng(5), 100)
    np.testing.assert_array_equal(whole, chunked)


def test_bootstrap_keeps_rows_whole() -> None:
    column = np.random.default_rng(1).normal(size=9)
    means = resampled_means(np.stack([column, -2 * column], axis=1), np.random.default_rng(5), 50)
    np.testing.assert_allclose(means[:, 1], -2 * means[:, 0])
