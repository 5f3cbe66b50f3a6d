"""The planner against METHODS, against itself, and against simulated runs."""

import numpy as np
import pytest
from scipy import stats

from sae_auto_interp.errors import InputError
from sae_auto_interp.metrics import features_for_half_width, features_needed, half_width, power_of, smallest_difference
from tests.metrics.scores import assert_rate


@pytest.mark.parametrize(
    ("difference", "expected"), [(0.01, (3115, 935, 312)), (0.02, (779, 234, 78)), (0.05, (125, 38, 13))]
)
def test_features_needed_goldens(difference: float, expected: tuple[int, int, int]) -> None:
    assert tuple(features_needed(difference, correlation=rho) for rho in (0.0, 0.7, 0.9)) == expected
    assert features_needed(-difference) == expected[0]


@pytest.mark.parametrize(("n", "expected"), [(50, 0.039), (100, 0.028), (300, 0.016), (500, 0.012), (1000, 0.009)])
def test_half_width_goldens(n: int, expected: float) -> None:
    assert round(half_width(n), 3) == expected
    assert features_for_half_width(half_width(n)) == n


@pytest.mark.parametrize("correlation", [0.0, 0.7, 0.9])
def test_needed_features_have_the_power_and_one_less_has_not(correlation: float) -> None:
    n = features_needed(0.02, correlation=correlation, power=0.9, alpha=0.01)
    assert power_of(n, 0.02, correlation=correlation, alpha=0.01) >= 0.9 - 1e-9
    assert power_of(n - 1, 0.02, correlation=correlation, alpha=0.01) < 0.9
    assert smallest_difference(n, correlation=correlation, power=0.9, alpha=0.01) <= 0.02


def test_power_is_that_of_simulated_runs() -> None:
    """3000 pairs of runs of 234 features, correlation .7, compared by the paired t-test.

    Its exact power is that of the noncentral t, .798; the planner's normal one is within .005 of it.
    """
    sd, rho, difference, n, n_sets = 0.141, 0.7, 0.02, 234, 3000
    rng = np.random.default_rng(51)
    spread = sd * np.sqrt(2 * (1 - rho))
    shift = np.sqrt(n) * difference / spread
    critical = stats.t.ppf(0.975, n - 1)
    exact = stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift)
    common = rng.normal(0, sd * np.sqrt(rho), (n_sets, n))
    runs = common + rng.normal(0, sd * np.sqrt(1 - rho), (2, n_sets, n))
    differences = runs[1] + difference - runs[0]
    t = np.sqrt(n) * differences.mean(axis=1) / differences.std(axis=1, ddof=1)
    assert_rate(int((np.abs(t) >= critical).sum()), n_sets, float(exact))
    assert power_of(n, difference, sd, rho) == pytest.approx(exact, abs=0.005)


def test_no_difference_has_the_power_of_alpha() -> None:
    assert power_of(100, 0.0) == pytest.approx(0.05)


def test_impossible_plans_are_mistakes() -> None:
    for plan in (
        lambda: features_needed(0.0),
        lambda: features_needed(0.1, sd=0.0),
        lambda: features_needed(0.1, correlation=1.0),
        lambda: features_needed(0.1, power=1.0),
        lambda: features_needed(0.1, alpha=0.0),
        lambda: features_needed(0.1, power=0.05),
        lambda: smallest_difference(100, power=0.1, alpha=0.2),
        lambda: power_of(0, 0.1),
        lambda: half_width(0),
        lambda: features_for_half_width(0.0),
        lambda: smallest_difference(0),
        lambda: half_width(10, sd=-1.0),
    ):
        with pytest.raises(InputError, match="give"):
            plan()
    assert features_needed(10.0) == 2
