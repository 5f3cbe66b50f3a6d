"""Reliability of scores and corrected correlations."""

import numpy as np
import pytest
from scipy import stats

from sae_auto_interp.metrics import balanced_accuracy_variance, confusion, disattenuated_correlation, reliability
from tests.metrics.scores import known, make_score


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("n", "expected", "error"), [(10, 0.53, 0.097), (25, 0.81, 0.061), (50, 0.905, 0.043), (100, 0.953, 0.031)]
)
def test_goldens(n: int, expected: float, error: float) -> None:
    """Standard error at .75 with n per class, and reliability with an sd of .141 between features."""
    variance = 2 * 0.75 * 0.25 / n / 4
    assert round(float(np.sqrt(variance)), 3) == error
    scores = 0.75 + 0.141 * np.array([-1.0, 1.0] * 50) * np.sqrt(99 / 100)
    found = reliability(scores, np.full(100, variance), rng(), n_resamples=100)
    assert found.value == pytest.approx(expected, abs=0.005)


def test_sampling_variance_is_unbiased() -> None:
    """Mean over all outcomes of 6 + 6 trials equals the true variance of balanced accuracy."""
    n, tpr, tnr = 6, 0.8, 0.6
    total = 0.0
    for tp in range(n + 1):
        for tn in range(n + 1):
            score = make_score([1] * n + [0] * n, [1] * tp + [0] * (n - tp) + [0] * tn + [1] * (n - tn))
            variance = balanced_accuracy_variance(confusion(score))
            assert variance is not None
            total += stats.binom.pmf(tp, n, tpr) * stats.binom.pmf(tn, n, tnr) * variance
    assert total == pytest.approx((tpr * (1 - tpr) + tnr * (1 - tnr)) / n / 4)
    assert balanced_accuracy_variance(confusion(make_score([1, 0, 0], [1, 0, 0]))) is None


def test_corrected_correlation_recovers_that_of_the_true_scores() -> None:
    """2000 features, true correlation .8, noise as large as the signal: raw is about .4, corrected .8."""
    generator, n = np.random.default_rng(61), 2000
    true = generator.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], size=n).T
    noisy = true + generator.normal(0, 1, size=(2, n))
    variances = np.ones(n)
    raw = np.corrcoef(noisy[0], noisy[1])[0, 1]
    assert raw == pytest.approx(0.4, abs=3.3 / np.sqrt(n))
    found = disattenuated_correlation((noisy[0], variances), (noisy[1], variances), rng(), n_resamples=1000)
    value, low, high = known(found)
    assert low <= 0.8 <= high
    assert value == pytest.approx(0.8, abs=2 * 3.3 / np.sqrt(n))
    for row in noisy:
        _, low, high = known(reliability(row, variances, rng(), n_resamples=1000))
        assert low <= 0.5 <= high


def test_without_noise_nothing_is_corrected() -> None:
    generator = np.random.default_rng(62)
    first, second = generator.normal(size=(2, 40))
    zeros = np.zeros(40)
    found = disattenuated_correlation((first, zeros), (second, zeros), rng(), n_resamples=100)
    assert found.value == pytest.approx(np.corrcoef(first, second)[0, 1])
    assert reliability(first, zeros, rng(), n_resamples=100).value == 1.0


def test_edges() -> None:
    assert reliability(np.zeros(0), np.zeros(0), rng()).value is None
    equal = reliability(np.full(5, 0.7), np.full(5, 0.01), rng())
    assert (equal.value, equal.reason) == (None, "the scores are all equal")
    noise_only = np.array([0.5, 0.52, 0.48, 0.5])
    below = reliability(noise_only, np.full(4, 0.04), rng()).value
    assert below is not None
    assert below < 0
    undefined = disattenuated_correlation((noise_only, np.full(4, 0.04)), (noise_only, np.zeros(4)), rng())
    assert (undefined.value, undefined.reason) == (None, "a score varies over features no more than its noise")
