"""What the failures could have hidden."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from sae_auto_interp.metrics import auroc, balanced_accuracy, f1, failure_bounds, mcc, precision, tnr, tpr
from sae_auto_interp.metrics.failure_bounds import worst_predictions
from sae_auto_interp.types import ChoiceTrial, Score, SimulationTrial
from tests.metrics.scores import BROKEN, FEATURE, make_score

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


def test_rankings_are_bounded_by_every_order_of_the_failures() -> None:
    """Failed trials may come anywhere among the others, ties included."""
    targets, known = [1, 0, 1, 0, 1, 1, 0], [0.9, 0.4, 0.4, 0.2]
    confidences = [*known, None, None, None]
    ranking = replace(make_score(targets, [1] * 4 + [None] * 3, confidences), kind="ranking")
    bounds = failure_bounds(ranking)
    places = [-1.0, 0.2, 0.3, 0.4, 0.5, 0.9, 2.0]
    possible = [
        auroc(replace(make_score(targets, [1] * 7, [*known, *filled]), kind="ranking")).value
        for filled in itertools.product(places, repeat=3)
    ]
    assert bounds.if_all_wrong.value == pytest.approx(min(p for p in possible if p is not None))
    assert bounds.if_all_right.value == pytest.approx(max(p for p in possible if p is not None))
    assert bounds.if_all_wrong.n_failed == 0


def test_choices_are_bounded_by_the_wrong_choice_and_the_right_one() -> None:
    choices = [ChoiceTrial(4, 4, 5, "random", 0, i) for i in range(6)] + [ChoiceTrial(4, 0, 5, "random", 0, 9)]
    failed = [ChoiceTrial(4, None, 5, "random", 0, 20 + i, BROKEN) for i in range(3)]
    bounds = failure_bounds(Score(FEATURE, "intruder", "x", "choice", (), choices=(*choices, *failed)))
    assert (bounds.if_all_wrong.value, bounds.if_all_right.value) == (0.6, 0.9)
    assert (bounds.if_all_wrong.n, bounds.if_all_wrong.n_failed) == (10, 0)


def simulated(windows: Sequence[tuple[list[float], list[float] | None]]) -> Score:
    trials = (
        SimulationTrial(tuple(y), None if p is None else tuple(p), "activating", 0, i, BROKEN if p is None else None)
        for i, (y, p) in enumerate(windows)
    )
    return Score(FEATURE, "simulation", "x", "simulation", (), simulations=tuple(trials))


def correlation(y: np.ndarray, p: np.ndarray) -> float:
    return float(np.corrcoef(y, p)[0, 1])


@pytest.mark.parametrize("seed", range(12))
def test_no_predictions_of_failed_windows_correlate_less(seed: int) -> None:
    """Against a general optimiser from many starts; from hardly any failures to nothing but failures."""
    rng = np.random.default_rng(seed)
    n_free = int(rng.integers(2, 9))
    true = np.round(rng.gamma(1.0, 2.0, 14) * (rng.random(14) < 0.6), 2)
    predicted = np.clip(true + rng.normal(0, 1 + seed % 4, 14), 0, 9)[n_free:]
    free, rest, high = true[:n_free], true[n_free:], 9.0
    found = worst_predictions(rest, predicted, free, 0.0, high)
    assert ((found >= 0) & (found <= high)).all()
    everything = np.concatenate([rest, free])
    least = correlation(everything, np.concatenate([predicted, found]))

    def with_free(values: np.ndarray) -> float:
        return correlation(everything, np.concatenate([predicted, values]))

    starts = [*rng.uniform(0, high, (25, n_free)), *rng.choice([0.0, high], (25, n_free))]
    others = [minimize(with_free, start, bounds=[(0, high)] * n_free, method="L-BFGS-B").fun for start in starts]
    assert least <= min(others) + 1e-6


def test_bounds_of_simulations() -> None:
    known = [([0.0, 5.0, 0.0], [0.0, 6.0, 1.0]), ([0.0, 0.0, 2.0], [1.0, 0.0, 3.0])]
    bounds = failure_bounds(simulated([*known, ([3.0, 0.0, 0.0], None)]))
    without = failure_bounds(simulated(known))
    assert without.if_all_wrong == without.if_all_right
    low, middle, high = bounds.if_all_wrong.value, without.if_all_wrong.value, bounds.if_all_right.value
    assert low is not None
    assert middle is not None
    assert high is not None
    assert low < middle < high
    assert (bounds.if_all_wrong.n, bounds.if_all_wrong.n_failed) == (3, 0)
    truth = failure_bounds(simulated([*known, ([3.0, 0.0, 0.0], [3.0, 0.0, 0.0])])).if_all_right.value
    assert truth is not None
    assert high >= truth, "nothing is better than the best, the truth included"


def test_simulations_of_which_all_failed_or_in_which_nothing_happens() -> None:
    bounds = failure_bounds(simulated([([0.0, 2.0, 1.0], None), ([4.0, 0.0, 0.0], None)]))
    assert (bounds.if_all_wrong.value, bounds.if_all_right.value) == (pytest.approx(-1), pytest.approx(1))
    silent = failure_bounds(simulated([([0.0, 0.0], None)]))
    assert (silent.if_all_wrong.value, silent.if_all_right.value) == (None, None)
    assert failure_bounds(simulated([])).if_all_right.value is None
