"""Adjusted p-values against scipy and by hand, and what they promise, in simulation."""

import numpy as np
import pytest
from scipy import stats

from sae_auto_interp.errors import InputError
from sae_auto_interp.metrics import benjamini_hochberg, holm
from tests.metrics.scores import ALARM, assert_rate_at_most


def test_by_hand() -> None:
    p = np.array([0.04, 0.01, 0.03, 0.005])
    np.testing.assert_allclose(holm(p), [0.06, 0.03, 0.06, 0.02])
    np.testing.assert_allclose(benjamini_hochberg(p), [0.04, 0.02, 0.04, 0.02])


def test_benjamini_hochberg_equals_scipy() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 17, 400):
        p = np.round(rng.random(n) ** 2, 2)
        np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p), atol=1e-15)


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_none_one_and_no_p_value(adjust) -> None:
    assert adjust(np.zeros(0)).tolist() == []
    assert adjust(np.array([0.3])).tolist() == [0.3]
    assert adjust(np.ones(3)).tolist() == [1.0, 1.0, 1.0]
    for wrong in (1.1, -0.1, np.nan):
        with pytest.raises(InputError, match="is no p-value"):
            adjust(np.array([0.5, wrong]))


def p_values_of(shift: float, n_sets: int, n_true: int, n_false: int, seed: int) -> np.ndarray:
    """One-sided normal tests: `n_true` hypotheses hold, then `n_false` do not."""
    means = np.r_[np.zeros(n_true), np.full(n_false, shift)]
    return stats.norm.sf(np.random.default_rng(seed).normal(means, 1.0, size=(n_sets, n_true + n_false)))


@pytest.mark.parametrize(("n_true", "n_false", "shift"), [(160, 40, 3.0), (100, 100, 2.0), (200, 0, 0.0)])
def test_benjamini_hochberg_keeps_its_rate_of_false_discoveries(n_true: int, n_false: int, shift: float) -> None:
    """500 sets of 200 tests, q = .05: the mean share of false ones is q n_true / n; its error is measured."""
    q, n_sets = 0.05, 500
    p = p_values_of(shift, n_sets, n_true, n_false, seed=31)
    found = np.array([benjamini_hochberg(row) <= q for row in p])
    shares = found[:, :n_true].sum(axis=1) / np.maximum(found.sum(axis=1), 1)
    expected = q * n_true / (n_true + n_false)
    if n_false == 0:  # then a set has a false discovery or none
        assert_rate_at_most(int((shares > 0).sum()), n_sets, q)
    else:
        allowed = stats.t.ppf(1 - ALARM / 2, n_sets - 1) * stats.sem(shares)
        assert abs(shares.mean() - expected) <= allowed
        assert shares.mean() <= q
        assert found[:, n_true:].mean() > 0.3


def test_holm_keeps_its_rate_of_any_false_claim() -> None:
    p = p_values_of(2.0, 4000, 6, 4, seed=32)
    adjusted = np.array([holm(row) for row in p])
    assert_rate_at_most(int((adjusted[:, :6] <= 0.05).any(axis=1).sum()), 4000, 0.05)
    assert (adjusted[:, 6:] <= 0.05).mean() > (10 * p[:, 6:] <= 0.05).mean()
