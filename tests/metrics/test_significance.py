"""Exact tests against scipy, and their error rates."""

import numpy as np
import pytest
from scipy import stats

from sae_auto_interp.errors import InputError
from sae_auto_interp.metrics import chance_test, shuffled_test
from sae_auto_interp.types import Score
from tests.metrics.scores import FEATURE, assert_rate, make_score


@pytest.mark.parametrize(
    ("tp", "fn", "tn", "fp"), [(8, 2, 9, 1), (5, 5, 5, 5), (0, 4, 4, 0), (3, 0, 0, 4), (49, 1, 30, 20)]
)
def test_against_chance_is_fishers_test(tp: int, fn: int, tn: int, fp: int) -> None:
    score = make_score([1] * (tp + fn) + [0] * (tn + fp), [1] * tp + [0] * (fn + tn) + [1] * fp)
    expected = stats.fisher_exact([[tp, fn], [fp, tn]], alternative="greater")[1]
    assert chance_test(score).p_value == pytest.approx(expected)
    assert chance_test(score).n == tp + fn + tn + fp


@pytest.mark.parametrize("yes_rate", [0.5, 0.9])
def test_type_one_error_of_a_judge_that_ignores_the_explanation(yes_rate: float) -> None:
    """Exact: over all outcomes of 25 + 25 trials it falls below .05 at most .05 often, whatever its rate of yes."""
    n = 25
    pmf = stats.binom.pmf(np.arange(n + 1), n, yes_rate)
    rejected = sum(
        pmf[tp] * pmf[fp]
        for tp in range(n + 1)
        for fp in range(n + 1)
        if stats.hypergeom.sf(tp - 1, 2 * n, n, tp + fp) <= 0.05
    )
    assert 0.01 < rejected <= 0.05
    generator, n_sets = np.random.default_rng(41), 400
    answers = (generator.random((n_sets, 2 * n)) < yes_rate).astype(int)
    tests = [chance_test(make_score([1] * n + [0] * n, row)) for row in answers.tolist()]
    assert_rate(sum(test.p_value <= 0.05 for test in tests if test.p_value is not None), n_sets, rejected)


def test_against_shuffled_is_mcnemars_test() -> None:
    targets = [1] * 10 + [0] * 10
    own, other = make_score(targets, [1] * 9 + [0] + [0] * 10), make_score(targets, [1] * 5 + [0] * 5 + [1] + [0] * 9)
    found = shuffled_test(own, other)
    assert found.p_value == pytest.approx(stats.binomtest(5, 5, alternative="greater").pvalue)
    assert (found.n, found.n_failed) == (5, 0)
    assert shuffled_test(other, own).p_value == 1.0
    assert shuffled_test(own, own).p_value == 1.0


def test_failures_leave_the_pair_and_are_counted() -> None:
    own, other = make_score([1, 1, 0], [1, None, 0]), make_score([1, 1, 0], [0, 1, None])
    assert (shuffled_test(own, other).n, shuffled_test(own, other).n_failed) == (1, 2)
    nothing = shuffled_test(make_score([1], [None]), make_score([1], [1]))
    assert (nothing.p_value, nothing.n_failed) == (None, 1)
    assert nothing.reason
    failed = chance_test(make_score([1, 0, 0], [1, None, None]))
    assert (failed.p_value, failed.n_failed, failed.reason) == (None, 2, "no judged trial is negative")


@pytest.mark.parametrize(
    "other", [make_score([1, 0], [1, 0], documents=[0, 9]), make_score([1], [1]), make_score([0, 1], [1, 1])]
)
def test_other_questions_cannot_be_paired(other: Score) -> None:
    found = shuffled_test(make_score([1, 0], [1, 0]), other)
    assert found.p_value is None
    assert "did not ask the same questions" in (found.reason or "")


def test_simulations_are_no_verdicts() -> None:
    simulation = Score(FEATURE, "simulation", "x", "simulation", ())
    for test in (lambda: chance_test(simulation), lambda: shuffled_test(make_score([], []), simulation)):
        with pytest.raises(InputError, match="not classification"):
            test()
