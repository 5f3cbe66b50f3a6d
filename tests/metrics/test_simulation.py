"""Simulation metrics: goldens of the reference implementation, pooling, and what cannot be computed."""

import numpy as np
import pytest
from scipy import stats

from sae_auto_interp.errors import InputError
from sae_auto_interp.metrics import pearson, simulation_metrics
from sae_auto_interp.types import Score, SimulationTrial
from tests.metrics.scores import BROKEN, FEATURE, known, make_score


def simulated(*windows: tuple[list[float], list[float] | None], documents: list[int] | None = None) -> Score:
    trials = tuple(
        SimulationTrial(
            true=tuple(map(float, true)),
            predicted=None if predicted is None else tuple(map(float, predicted)),
            source="activating",
            quantile=0,
            document=i if documents is None else documents[i],
            failure=BROKEN if predicted is None else None,
        )
        for i, (true, predicted) in enumerate(windows)
    )
    return Score(FEATURE, "simulation", "x", "simulation", (), simulations=trials)


def metrics_of(score: Score):
    return simulation_metrics(score, np.random.default_rng(0))


TRUE, PREDICTED = [0.0, 0, 3, 10, 0, 5], [0.0, 1, 2, 8, 0, 6]


def test_goldens() -> None:
    found = metrics_of(simulated((TRUE[:3], PREDICTED[:3]), (TRUE[3:], PREDICTED[3:])))
    assert found.ev_correlation.value == pytest.approx(0.9639772815857693, abs=1e-14)
    assert found.rsquared.value == pytest.approx(0.9477611940298507, abs=1e-14)
    assert found.absolute_dev_explained.value == pytest.approx(0.7222222222222222, abs=1e-14)
    check_18 = metrics_of(simulated(([0, 0, 10, 0], [0, 1, 9, 0])))
    assert check_18.ev_correlation.value == pytest.approx(0.9941, abs=5e-5)


def test_windows_are_pooled_not_averaged() -> None:
    """Per window the correlations are 1 and -1, which average to 0."""
    found = metrics_of(simulated(([0, 1], [0, 1]), ([5, 6], [6, 5])))
    assert found.ev_correlation.value == pytest.approx(0.9615384615384615)


def test_how_the_text_is_cut_into_windows_changes_no_value() -> None:
    whole = metrics_of(simulated((TRUE, PREDICTED)))
    parts = metrics_of(simulated(*[([y], [p]) for y, p in zip(TRUE, PREDICTED, strict=True)]))
    for name in ("ev_correlation", "rsquared", "absolute_dev_explained"):
        assert getattr(whole, name).value == pytest.approx(getattr(parts, name).value)


def test_correlation_equals_numpy_and_ignores_unit_and_zero() -> None:
    rng = np.random.default_rng(2)
    for scale in (1e-6, 1.0, 1e6):
        y, p = rng.exponential(size=50), rng.normal(size=50)
        assert pearson(y, scale * p + 7 * scale) == pytest.approx(np.corrcoef(y, p)[0, 1], abs=1e-9)


def test_rsquared_is_not_centred() -> None:
    """Predicting 0 scores 0; predicting the mean scores above 0, here (mean y)^2 / mean y^2."""
    zero = metrics_of(simulated((TRUE, [0.0] * 6)))
    assert (zero.rsquared.value, zero.absolute_dev_explained.value) == (0.0, 0.0)
    mean = metrics_of(simulated((TRUE, [3.0] * 6)))
    assert mean.rsquared.value == pytest.approx(9 / (134 / 6))
    assert mean.ev_correlation.value is None


@pytest.mark.parametrize("constant", [0.0, 0.1, 7.3, 1e6])
def test_constant_predictions_have_no_correlation(constant: float) -> None:
    found = metrics_of(simulated((TRUE, [constant] * 6), (TRUE, [constant] * 6))).ev_correlation
    assert (found.value, found.low, found.high) == (None, None, None)
    assert "all equal" in (found.reason or "")
    assert pearson(np.array(TRUE), np.full(6, constant)) is None


def test_perfect_and_silent() -> None:
    perfect = metrics_of(simulated((TRUE, TRUE), (TRUE, TRUE)))
    assert perfect.ev_correlation.value == pytest.approx(1.0)
    assert (perfect.rsquared.value, perfect.absolute_dev_explained.value) == (1.0, 1.0)
    silent = metrics_of(simulated(([0.0] * 4, [0.0, 1, 0, 0])))
    assert silent.rsquared.reason == "the feature is silent in every window"
    assert silent.absolute_dev_explained.value is None
    assert silent.ev_correlation.value is None


def test_failed_windows_are_counted_and_in_no_metric() -> None:
    found = metrics_of(simulated((TRUE, PREDICTED), ([9.0] * 6, None))).rsquared
    assert found.value == pytest.approx(0.9477611940298507)
    assert (found.n, found.n_failed) == (1, 1)
    for score in (simulated((TRUE, None)), simulated()):
        nothing = metrics_of(score).ev_correlation
        assert (nothing.value, nothing.n, nothing.reason) == (None, 0, "no window was simulated")
    assert pearson(np.zeros(0), np.zeros(0)) is None


def test_what_is_no_simulation_is_a_mistake() -> None:
    with pytest.raises(InputError, match="of kind 'classification', not simulation"):
        metrics_of(make_score([1], [1]))
    with pytest.raises(InputError, match="predicted 1 values for the 2 tokens"):
        metrics_of(simulated(([1.0, 2.0], [1.0])))


def test_interval_is_over_documents() -> None:
    """Windows repeated within a document add no evidence: the interval is that of the documents."""
    rng = np.random.default_rng(4)
    windows = [(rng.exponential(size=8).tolist(), rng.exponential(size=8).tolist()) for _ in range(30)]
    once = metrics_of(simulated(*windows)).ev_correlation
    thrice = metrics_of(simulated(*windows * 3, documents=list(range(30)) * 3)).ev_correlation
    assert thrice.value == pytest.approx(once.value)
    assert (thrice.low, thrice.high) == (pytest.approx(once.low), pytest.approx(once.high))
    error = 1 / np.sqrt(240)
    width = known(once).high - known(once).low
    assert width == pytest.approx(2 * stats.norm.ppf(0.975) * error, rel=0.5)
