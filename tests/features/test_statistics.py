"""Feature statistics: goldens of PEERS check 22, brute force, and error rates."""

import numpy as np
import pytest
from scipy import stats

from sae_auto_interp.errors import InputError
from sae_auto_interp.features.triage.profiles import (
    dead_density_bound,
    density_interval,
    positional_information,
    token_entropy_nats,
    top_token_fraction,
)
from sae_auto_interp.metrics import benjamini_hochberg, clopper_pearson
from tests.metrics.scores import ALARM, assert_rate_at_most

T, N_ROWS = 64, 1000
ROWS = np.full(T, N_ROWS)


def counts_of(first: float, rest: float) -> np.ndarray:
    return np.array([[round(first * N_ROWS), *[round(rest * N_ROWS)] * (T - 1)]])


@pytest.mark.parametrize(("first", "rest", "expected"), [(1.0, 0.0, 0.0805), (0.9, 0.001, 0.065), (0.1, 0.1, 0.0)])
def test_positional_goldens(first: float, rest: float, expected: float) -> None:
    found = positional_information(counts_of(first, rest), ROWS)
    assert found.information_nats[0] == pytest.approx(expected, abs=5e-5 if first == 1.0 else 5e-4)
    assert 0 <= found.normalised[0] <= 1
    if expected == 0:
        assert found.information_nats[0] == pytest.approx(0, abs=1e-15)
        assert found.p_values[0] == pytest.approx(1.0)
    else:
        assert found.p_values[0] < 1e-10


def test_a_feature_of_one_position_is_all_position_at_any_density() -> None:
    """The threshold of .05 nats misses it below a density of .9 %; the normalised value does not."""
    rare = np.zeros((1, 1024), dtype=np.int64)
    rare[0, 0] = N_ROWS
    found = positional_information(rare, np.full(1024, N_ROWS))
    assert found.information_nats[0] < 0.05
    assert found.normalised[0] == pytest.approx(1.0)


def test_information_is_that_of_the_joint_table() -> None:
    """Brute force over the cells of firing and position, with rows of different lengths."""
    rng = np.random.default_rng(1)
    rows = rng.integers(5, 30, size=12)
    counts = rng.integers(0, rows + 1, size=(7, 12))
    joint = np.stack([counts, rows - counts], axis=1) / rows.sum()
    found = positional_information(counts, rows)
    for feature in range(7):
        p = joint[feature]
        independent = p.sum(axis=0) * p.sum(axis=1, keepdims=True)
        terms = np.where(p > 0, p * np.log(np.where(p > 0, p, 1) / independent), 0.0)
        assert found.information_nats[feature] == pytest.approx(terms.sum())
        g_test = stats.chi2_contingency(p * rows.sum(), correction=False, lambda_="log-likelihood")
        assert found.p_values[feature] == pytest.approx(g_test[1])


def test_features_that_fire_anywhere_are_seldom_called_positional() -> None:
    """1000 independent features: the G-test at .05, then no discovery after Benjamini-Hochberg but for chance.

    Its chi-squared limit is checked where it applies, at 20 expected firings per position and more.
    """
    rng = np.random.default_rng(71)
    densities = rng.uniform(0.02, 0.4, size=1000)
    found = positional_information(rng.binomial(N_ROWS, densities[:, None], size=(1000, T)), ROWS)
    assert_rate_at_most(int((found.p_values <= 0.05).sum()), 1000, 0.05)
    planted = rng.binomial(N_ROWS, densities[:, None], size=(1000, T))
    planted[:100, 0] = rng.binomial(N_ROWS, 0.9, size=100)
    is_found = benjamini_hochberg(positional_information(planted, ROWS).p_values) <= 0.05
    assert is_found[:100].all()
    n_false = int(is_found[100:].sum())
    assert n_false <= stats.nbinom.ppf(1 - ALARM, 100, 0.95)


def test_positional_edges() -> None:
    counts = np.array([[0, 0, 0], [4, 4, 4], [1, 2, 3]])
    found = positional_information(counts, np.array([4, 4, 4]))
    assert found.information_nats[:2].tolist() == [0.0, 0.0]
    assert found.normalised[:2].tolist() == [0.0, 0.0]
    assert found.p_values[:2].tolist() == [1.0, 1.0]
    with_padding = positional_information(np.c_[counts, np.zeros(3, dtype=np.int64)], np.array([4, 4, 4, 0]))
    np.testing.assert_allclose(with_padding.p_values, found.p_values)
    nothing = positional_information(np.zeros((2, 3), dtype=np.int64), np.zeros(3, dtype=np.int64))
    assert nothing.information_nats.tolist() == [0.0, 0.0]
    with pytest.raises(InputError, match="at most once per row"):
        positional_information(np.array([[5, 0, 0]]), np.array([4, 4, 4]))


def test_density_interval_is_clopper_pearson_of_each_feature() -> None:
    active = np.array([0, 1, 17, 99, 100])
    found = density_interval(active, 100)
    for k, (low, high) in zip(active.tolist(), found, strict=True):
        expected = clopper_pearson(k, 100)
        assert (low, high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert density_interval(np.array([0]), 0).tolist() == [[0.0, 1.0]]


def test_bound_of_a_dead_feature_is_the_rule_of_three() -> None:
    for n in (100, 10_000, 100_000_000):
        assert dead_density_bound(n) == pytest.approx(3 / n, rel=0.02)
        assert (1 - dead_density_bound(n)) ** n == pytest.approx(0.05)
    assert dead_density_bound(0) == 1.0


def test_token_entropy() -> None:
    assert token_entropy_nats(np.array([7])) == token_entropy_nats(np.array([0, 0])) == 0.0
    assert token_entropy_nats(np.array([5, 5, 5, 5])) == pytest.approx(np.log(4))
    assert token_entropy_nats(np.array([8, 0, 2])) == pytest.approx(stats.entropy([0.8, 0.2]))
    assert top_token_fraction(np.array([8, 0, 2])) == 0.8
    assert top_token_fraction(np.zeros(0, dtype=np.int64)) == token_entropy_nats(np.zeros(0, dtype=np.int64)) == 0.0
