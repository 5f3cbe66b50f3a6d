"""Kappas against scikit-learn, by brute force, and where there is nothing to agree on."""

import itertools

import numpy as np
import pytest
from sklearn import metrics as sk

from sae_auto_interp.metrics import cohen_kappa, equal_share, retest_kappa
from tests.metrics.scores import known


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def flipped(truth: np.ndarray, rate: float, generator: np.random.Generator) -> list[bool]:
    return (truth ^ (generator.random(len(truth)) < rate)).tolist()


def test_cohens_kappa_equals_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    truth = generator.random(80) < 0.3
    first, second = flipped(truth, 0.1, generator), flipped(truth, 0.2, generator)
    found = cohen_kappa(first, second, list(range(80)), rng())
    assert found.value == pytest.approx(sk.cohen_kappa_score(first, second))
    value, low, high = known(found)
    assert low < value < high
    assert found.n == 80


def test_retest_kappa_is_the_agreement_of_random_pairs() -> None:
    generator = np.random.default_rng(2)
    truth = generator.random(60) < 0.4
    repeats = [flipped(truth, 0.1, generator) for _ in range(4)]
    table = np.array(repeats)
    observed = np.mean([(table[i] == table[j]).mean() for i, j in itertools.combinations(range(4), 2)])
    expected = table.mean() ** 2 + (1 - table.mean()) ** 2
    found = retest_kappa(repeats, list(range(60)), rng())
    assert found.value == pytest.approx((observed - expected) / (1 - expected))


def test_perfect_and_opposite_judges() -> None:
    yes_no = [True, False] * 10
    documents = list(range(20))
    assert cohen_kappa(yes_no, yes_no, documents, rng()).value == 1.0
    assert retest_kappa([yes_no, yes_no], documents, rng()).value == 1.0
    assert cohen_kappa(yes_no, [not v for v in yes_no], documents, rng()).value == -1.0


def test_chance_agreement_is_about_zero() -> None:
    """Independent judges of 4000 windows: kappa has a standard error of 1/sqrt(n) under no agreement."""
    generator = np.random.default_rng(3)
    first, second = (generator.random((2, 4000)) < 0.7).tolist()
    assert abs(known(cohen_kappa(first, second, list(range(4000)), rng(), n_resamples=50)).value) < 3.3 / np.sqrt(4000)


def test_failed_verdicts_are_left_out_and_counted() -> None:
    found = cohen_kappa([True, False, None, True], [True, False, True, None], [0, 1, 2, 3], rng())
    assert (found.value, found.n, found.n_failed) == (1.0, 2, 2)
    for empty in ([None, None], []):
        nothing = cohen_kappa(empty, empty, list(range(len(empty))), rng())
        assert (nothing.value, nothing.reason) == (None, "no window has every verdict")


def test_one_verdict_throughout_says_nothing() -> None:
    always = [True] * 5
    for found in (
        cohen_kappa(always, always, list(range(5)), rng()),
        retest_kappa([always] * 3, list(range(5)), rng()),
    ):
        assert found.value is None
        assert "every verdict is the same" in (found.reason or "")


def test_equal_share_is_the_agreement_that_kappa_corrects() -> None:
    first, second = [True] * 6 + [False] * 4, [True] * 5 + [False] * 5
    equal = equal_share(first, second, list(range(10)), np.random.default_rng(0), unit="features")
    kappa = cohen_kappa(first, second, list(range(10)), np.random.default_rng(0), unit="features")
    expected = 0.6 * 0.5 + 0.4 * 0.5
    assert (equal.value, equal.n) == (0.9, 10)
    assert kappa.value == pytest.approx((0.9 - expected) / (1 - expected))
    assert equal.method == kappa.method == "percentile bootstrap over features"
