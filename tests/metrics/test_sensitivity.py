"""What the failures could have hidden."""

import itertools

import pytest

from sae_auto_interp.errors import InputError
from sae_auto_interp.metrics import balanced_accuracy, f1, failure_bounds, mcc, precision, tnr, tpr
from sae_auto_interp.types import Score
from tests.metrics.scores import FEATURE, make_score

METRICS = [balanced_accuracy, tpr, tnr, precision, f1, mcc]


@pytest.mark.parametrize("metric", METRICS)
def test_no_outcome_of_the_failures_lies_outside(metric) -> None:
    """Every way to fill in five failures."""
    targets, answers = [1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0], [1, 1, 0, 0, 1, 0] + [None] * 5
    bounds = failure_bounds(make_score(targets, answers), metric)
    possible = [
        metric(make_score(targets, answers[:6] + list(filled))).value for filled in itertools.product([0, 1], repeat=5)
    ]
    assert bounds.if_all_wrong.value == pytest.approx(min(possible))
    assert bounds.if_all_right.value == pytest.approx(max(possible))
    assert bounds.if_all_wrong.n_failed == bounds.if_all_right.n_failed == 0


@pytest.mark.parametrize("metric", METRICS)
def test_without_failures_both_bounds_are_the_metric(metric) -> None:
    score = make_score([1, 1, 0, 0], [1, 0, 0, 1])
    bounds = failure_bounds(score, metric)
    assert bounds.if_all_wrong == bounds.if_all_right == metric(score)


def test_everything_failed_and_nothing_there() -> None:
    bounds = failure_bounds(make_score([1, 0, 1], [None] * 3))
    assert (bounds.if_all_wrong.value, bounds.if_all_right.value, bounds.if_all_right.n) == (0.0, 1.0, 3)
    assert failure_bounds(make_score([], [])).if_all_wrong.value is None


def test_simulations_have_no_such_bounds() -> None:
    with pytest.raises(InputError, match="not classification"):
        failure_bounds(Score(FEATURE, "simulation", "x", "simulation", ()))
