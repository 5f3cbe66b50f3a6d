"""Two runs on the same features: the test against scipy, its error rate, and the effect size."""

import numpy as np
import pytest
from scipy import stats

from sae_auto_interp.metrics import Resampling, compare_paired, signed_rank
from sae_auto_interp.metrics.comparison import MAX_EXACT, rank_biserial_statistic
from sae_auto_interp.metrics.rates import mean_statistic
from sae_auto_interp.types import Estimate, FeatureId
from tests.metrics.scores import assert_covers, assert_rate, assert_rate_at_most, count_covered, known


def estimates(values: list[float | None], first: int = 0) -> dict[FeatureId, Estimate]:
    return {
        FeatureId("m", first + i): Estimate(v, None, None, 0.95, "test", 10, i % 2, None if v is not None else "none")
        for i, v in enumerate(values)
    }


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_comparison_of_two_runs() -> None:
    generator = np.random.default_rng(1)
    a = generator.normal(0.7, 0.1, 60)
    b = a + generator.normal(0.03, 0.04, 60)
    found = compare_paired(estimates(a.tolist()), estimates(b.tolist()), rng())
    assert found.first.value == pytest.approx(a.mean())
    assert found.second.value == pytest.approx(b.mean())
    assert found.difference.value == pytest.approx((b - a).mean())
    half = stats.sem(b - a, ddof=0) * 1.96
    assert found.difference.low == pytest.approx((b - a).mean() - half, abs=0.1 * half)
    assert found.significance.p_value == pytest.approx(stats.wilcoxon(b - a, method="exact")[1])
    ranks = stats.rankdata(np.abs(b - a))
    assert found.effect_size.value == pytest.approx((ranks * np.sign(b - a)).sum() / ranks.sum())
    value, low, high = known(found.effect_size)
    assert low < value < high
    assert (found.difference.n, found.difference.n_failed, found.first.n_failed) == (60, 60, 30)


def test_swapping_the_runs_turns_the_sign_only() -> None:
    a, b = estimates([0.5, 0.6, 0.7, 0.9]), estimates([0.6, 0.6, 0.9, 0.8])
    one, other = compare_paired(a, b, rng()), compare_paired(b, a, rng())
    assert one.difference.value == pytest.approx(-known(other.difference).value)
    assert one.effect_size.value == pytest.approx(-known(other.effect_size).value)
    assert one.significance.p_value == other.significance.p_value


def test_only_features_of_both_runs_count_and_the_rest_is_told() -> None:
    a, b = estimates([0.5, None, 0.7, 0.8]), estimates([0.6, 0.7, None, 0.8, 0.9])
    found = compare_paired(a, b, rng())
    assert (found.difference.n, found.n_only_first, found.n_only_second) == (2, 1, 2)
    assert found.difference.value == pytest.approx(0.05)


def test_nothing_one_and_no_difference() -> None:
    nothing = compare_paired({}, estimates([0.5]), rng())
    assert (nothing.difference.value, nothing.significance.p_value, nothing.n_only_second) == (None, None, 1)
    assert nothing.difference.reason == nothing.effect_size.reason == "no feature has both values"
    one = compare_paired(estimates([0.5]), estimates([0.75]), rng())
    assert (one.difference.value, one.difference.low, one.significance.p_value) == (0.25, None, 1.0)
    same = compare_paired(estimates([0.5, 0.6]), estimates([0.5, 0.6]), rng())
    assert (same.difference.value, same.significance.p_value) == (0.0, 1.0)
    assert same.effect_size.reason == "no feature differs"


@pytest.mark.parametrize("n", [1, 2, 5, 13, 50, MAX_EXACT])
def test_signed_rank_equals_scipy_without_ties(n: int) -> None:
    generator = np.random.default_rng(n)
    for shift in (0.0, 0.4):
        differences = generator.normal(shift, 1.0, size=n)
        expected = stats.wilcoxon(differences, method="exact")
        assert signed_rank(differences).p_value == pytest.approx(expected[1])


def test_signed_rank_with_ties_is_the_permutation_test() -> None:
    """All 2^n signs, where scipy's exact distribution does not apply; zeros are dropped."""
    generator = np.random.default_rng(7)
    for _ in range(20):
        differences = generator.integers(-3, 5, size=9) * 0.1
        nonzero = differences[np.round(differences, 3) != 0]
        ranks = stats.rankdata(np.round(np.abs(nonzero), 3))
        signs = np.array(np.meshgrid(*[[0, 1]] * len(nonzero))).reshape(len(nonzero), -1)
        sums, w = ranks @ signs, ranks[nonzero > 0].sum()
        expected = min(1.0, 2 * min((sums <= w + 1e-9).mean(), (sums >= w - 1e-9).mean()))
        found = signed_rank(differences)
        assert found.p_value == pytest.approx(expected)
        assert found.n == len(nonzero)


def test_signed_rank_of_many_equals_scipys_approximation() -> None:
    generator = np.random.default_rng(8)
    for differences in (generator.normal(0.1, 1.0, 900), generator.integers(-5, 7, 900).astype(float)):
        expected = stats.wilcoxon(differences, method="approx", zero_method="wilcox", correction=False)
        found = signed_rank(differences)
        assert found.p_value == pytest.approx(expected[1], rel=1e-9)
        assert "normal" in found.method


def exact_size(n: int, alpha: float) -> float:
    """Probability that the exact test of `n` differences without ties rejects, from the generating function."""
    pmf = np.ones(1)
    for rank in range(1, n + 1):
        pmf = np.convolve(pmf, [0.5] + [0.0] * (rank - 1) + [0.5])
    p_values = 2 * np.minimum(np.cumsum(pmf), np.cumsum(pmf[::-1])[::-1])
    return float(pmf[p_values <= alpha].sum())


@pytest.mark.parametrize("kind", ["continuous", "ties"])
def test_type_one_error_of_the_paired_test(kind: str) -> None:
    """2000 pairs of runs of 40 features without a difference; scores in steps of 1/50 have ties and zeros."""
    generator = np.random.default_rng(21)
    common = generator.beta(6, 2, size=(2000, 40))
    noise = generator.normal(0, 0.05, size=(2, 2000, 40))
    first, second = common + noise
    if kind == "ties":
        first, second = np.round(50 * first) / 50, np.round(50 * second) / 50
    p_values = np.array([signed_rank(d).p_value for d in second - first])
    n_rejected = int((p_values <= 0.05).sum())
    assert_rate_at_most(n_rejected, 2000, 0.05)
    if kind == "continuous":
        assert_rate(n_rejected, 2000, exact_size(40, 0.05))


def test_interval_of_the_difference_covers() -> None:
    generator = np.random.default_rng(22)
    runs = [mean_statistic(d) for d in 0.02 + generator.normal(0, 0.05, size=(2000, 60))]
    assert_covers(count_covered(runs, 0.02, Resampling(n_units=60, unit="features", n_resamples=500), generator), 2000)


def test_weighted_rank_biserial_is_that_of_repeated_differences() -> None:
    generator = np.random.default_rng(9)
    for _ in range(20):
        differences = generator.integers(-4, 5, size=12) * 0.1
        counts = generator.integers(0, 4, size=12)
        repeated = np.repeat(differences, counts)
        repeated = repeated[np.round(repeated, 3) != 0]
        ranks = stats.rankdata(np.round(np.abs(repeated), 3))
        expected = (ranks * np.sign(repeated)).sum() / ranks.sum()
        assert rank_biserial_statistic(differences)(counts[None].astype(float))[0] == pytest.approx(expected)
