"""Forced choices: chance is stored, guessing stays at it, and the exact test is scipy's."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from sae_auto_interp.errors import InputError
from sae_auto_interp.metrics import (
    balanced_accuracy,
    choice_accuracy,
    choice_accuracy_by_quantile,
    choice_chance,
    choice_skill,
    choice_test,
)
from sae_auto_interp.types import ChoiceTrial, Score
from tests.metrics.scores import BROKEN, FEATURE, assert_rate_at_most, known, make_score


def make_choices(
    chosen: Sequence[int | None], targets: Sequence[int] | None = None, n_choices: Sequence[int] | int = 5
) -> Score:
    """Target 0 unless given; quantile i % 2."""
    sizes = [n_choices] * len(chosen) if isinstance(n_choices, int) else n_choices
    trials = tuple(
        ChoiceTrial(
            0 if targets is None else targets[i], c, sizes[i], "random", i % 2, i, None if c is not None else BROKEN
        )
        for i, c in enumerate(chosen)
    )
    return Score(FEATURE, "intruder", f"none/{FEATURE}", "choice", (), choices=trials)


def test_accuracy_has_wilsons_interval_and_counts_failures() -> None:
    found = choice_accuracy(make_choices([0, 0, 3, 0, None]))
    wilson = stats.binomtest(3, 4).proportion_ci(method="wilson")
    assert known(found) == pytest.approx((0.75, wilson.low, wilson.high))
    assert (found.n, found.n_failed) == (4, 1)


def test_chance_is_that_of_the_choices_made() -> None:
    score = make_choices([0, 0, None], n_choices=[2, 5, 100])
    assert choice_chance(score).value == pytest.approx((1 / 2 + 1 / 5) / 2)
    assert choice_chance(make_choices([0] * 4)).value == pytest.approx(0.2)


def test_skill_is_0_at_chance_and_1_when_always_right() -> None:
    assert choice_skill(make_choices([0, 1, 2, 3, 4])).value == pytest.approx(0)
    assert choice_skill(make_choices([0] * 5)).value == 1
    assert choice_skill(make_choices([1] * 5)).value == pytest.approx(-0.25)
    assert "nothing to choose" in (choice_skill(make_choices([0], n_choices=1)).reason or "")


@pytest.mark.parametrize(("n", "needed"), [(10, 5), (20, 8), (50, 16)])
def test_how_many_right_choices_of_five_are_more_than_luck(n: int, needed: int) -> None:
    def p_value(n_right: int) -> float:
        found = choice_test(make_choices([0] * n_right + [1] * (n - n_right))).p_value
        assert found is not None
        return found

    assert p_value(needed) < 0.05 < p_value(needed - 1)
    assert p_value(needed) == pytest.approx(stats.binom.sf(needed - 1, n, 0.2))


def test_trials_that_offered_different_numbers_are_a_poisson_binomial() -> None:
    sizes = [2, 3, 5, 5, 7]
    found = choice_test(make_choices([0, 0, 0, 1, 1], n_choices=sizes)).p_value
    draws = np.random.default_rng(0).random((200_000, 5)) < 1 / np.array(sizes)
    assert found == pytest.approx((draws.sum(axis=1) >= 3).mean(), abs=0.005)


def test_the_test_keeps_its_error_rate_when_everyone_guesses() -> None:
    rng = np.random.default_rng(1)
    guesses = rng.integers(0, 5, (400, 30))
    p_values = [choice_test(make_choices(row.tolist())).p_value for row in guesses]
    assert_rate_at_most(sum(p is not None and p <= 0.05 for p in p_values), 400, 0.05)


def test_accuracy_by_quantile() -> None:
    found = choice_accuracy_by_quantile(make_choices([0, 1, 0, 0, 0, 1]))
    assert {q: e.value for q, e in found.items()} == {0: 1.0, 1: pytest.approx(1 / 3)}


def test_without_any_choice_everything_is_undefined_with_the_reason() -> None:
    score = make_choices([None, None])
    for estimate in (choice_accuracy(score), choice_chance(score), choice_skill(score)):
        assert (estimate.value, estimate.n, estimate.n_failed) == (None, 0, 2)
        assert estimate.reason == "no choice was made"
    assert choice_test(score).reason == "no choice was made"


def test_kinds_are_not_mixed_up() -> None:
    with pytest.raises(InputError, match="kind 'classification', not choice"):
        choice_accuracy(make_score([1, 0], [1, 0]))
    with pytest.raises(InputError, match="kind 'choice', not classification"):
        balanced_accuracy(make_choices([0]))
