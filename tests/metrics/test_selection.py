"""The best of k by luck."""

import itertools

import numpy as np
import pytest

from sae_auto_interp.errors import InputError
from sae_auto_interp.metrics import best_of_k_null
from sae_auto_interp.metrics.best_of_k import expected_maximum
from tests.metrics.scores import known


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("k", [1, 2, 5, 10])
def test_uniform_scores_have_a_best_of_k_of_k_over_k_plus_one(k: int) -> None:
    """The evenly spread 1/(n+1) ... n/(n+1), the means of uniform order statistics, give k/(k+1) exactly."""
    n = 999
    scores = np.arange(1, n + 1) / (n + 1)
    assert best_of_k_null(scores, k, rng(), n_resamples=100).value == pytest.approx(k / (k + 1), abs=1e-12)


def test_interval_covers_the_truth_for_uniform_scores() -> None:
    scores = np.random.default_rng(1).random(400)
    found = known(best_of_k_null(scores, 5, rng(), n_resamples=2000))
    assert found.low < 5 / 6 < found.high
    assert found.high - found.low < 0.06


def test_value_is_the_mean_over_all_sets() -> None:
    scores = np.random.default_rng(2).integers(0, 5, size=8) / 4
    for k in (1, 3, 8):
        expected = np.mean([max(chosen) for chosen in itertools.combinations(scores, k)])
        assert best_of_k_null(scores, k, rng(), n_resamples=50).value == pytest.approx(expected)


def test_weights_count_repeats() -> None:
    scores, counts = np.array([0.1, 0.9, 0.4, 0.4]), np.array([[2.0, 1, 0, 3]])
    repeated = np.repeat(scores, counts[0].astype(int))
    expected = expected_maximum(repeated, 3)(np.ones((1, 6)))
    assert expected_maximum(scores, 3)(counts)[0] == pytest.approx(expected[0])


def test_edges() -> None:
    assert best_of_k_null(np.zeros(0), 1, rng()).value is None
    few = best_of_k_null(np.array([0.2, 0.4]), 3, rng(), n_failed=4)
    assert (few.value, few.reason, few.n_failed) == (None, "2 scores are too few for the best of 3", 4)
    one = best_of_k_null(np.array([0.2]), 1, rng())
    assert (one.value, one.low) == (0.2, None)
    with pytest.raises(InputError, match="best of 0"):
        best_of_k_null(np.array([0.2]), 0, rng())
