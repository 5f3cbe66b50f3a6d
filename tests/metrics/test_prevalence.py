"""Precision, F1, MCC and AUPRC in text, where the feature is rare."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from sae_auto_interp.errors import InputError
from sae_auto_interp.metrics import (
    average_precision,
    average_precision_at_density,
    f1,
    f1_at_density,
    mcc,
    mcc_at_density,
    precision,
    precision_at_density,
    prevalence,
)
from sae_auto_interp.metrics.bootstrap import Statistic
from sae_auto_interp.types import ExampleSource, Score
from tests.metrics.scores import known, make_score


def judged(n_hits: int, n_positive: int, n_alarms: int, n_negative: int) -> Score:
    answers = [1] * n_hits + [0] * (n_positive - n_hits) + [1] * n_alarms + [0] * (n_negative - n_alarms)
    return make_score([1] * n_positive + [0] * n_negative, answers)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_golden() -> None:
    """METHODS: TPR .8, FPR .05, density .001 -> .016; and the same by hand for F1."""
    score = judged(80, 100, 5, 100)
    found = known(precision_at_density(score, 0.001))
    assert found.value == pytest.approx(0.001 * 0.8 / (0.001 * 0.8 + 0.999 * 0.05))
    assert round(found.value, 3) == 0.016
    assert f1_at_density(score, 0.001).value == pytest.approx(2 * 0.8 * found.value / (0.8 + found.value))
    assert found.low < found.value < found.high


def test_at_the_share_of_the_test_set_it_is_the_textbook_metric() -> None:
    score = judged(40, 60, 7, 140)
    for plain, at_density in [(precision, precision_at_density), (f1, f1_at_density), (mcc, mcc_at_density)]:
        assert at_density(score, 0.3).value == pytest.approx(plain(score).value)


@pytest.mark.parametrize("density", [0.5, 0.1, 0.003])
def test_values_equal_scikit_learn_with_weights(density: float) -> None:
    generator = np.random.default_rng(1)
    y, p = np.array([1] * 30 + [0] * 50), np.round(generator.random(80), 1)
    answers = (p > 0.3).astype(int)
    weights = np.where(y == 1, density / 30, (1 - density) / 50)
    score = make_score(y.tolist(), answers.tolist(), p.tolist())
    assert precision_at_density(score, density).value == pytest.approx(
        sk.precision_score(y, answers, sample_weight=weights)
    )
    assert f1_at_density(score, density).value == pytest.approx(sk.f1_score(y, answers, sample_weight=weights))
    assert mcc_at_density(score, density).value == pytest.approx(
        sk.matthews_corrcoef(y, answers, sample_weight=weights)
    )
    found = known(average_precision_at_density(score, density, rng()))
    assert found.value == pytest.approx(sk.average_precision_score(y, p, sample_weight=weights))
    assert found.low <= found.value <= found.high


def test_only_negatives_drawn_as_they_come_count() -> None:
    """Near negatives are hard on purpose: their false alarms say nothing about text."""
    sources: list[ExampleSource] = ["activating", "activating", "random", "random", "neighbour", "neighbour"]
    near = make_score([1, 1, 0, 0, 0, 0], [1, 1, 0, 1, 1, 1], sources=sources)
    assert precision_at_density(near, 0.1).value == pytest.approx(0.1 / (0.1 + 0.9 * 0.5))
    assert precision_at_density(near, 0.1).n == 4
    without = make_score([1, 0], [1, 0], sources=["activating", "neighbour"])
    assert "drawn at random" in (precision_at_density(without, 0.1).reason or "")


def test_an_over_broad_explanation_loses_precision_where_balanced_accuracy_hardly_moves() -> None:
    exact, broad = judged(90, 100, 0, 100), judged(98, 100, 8, 100)
    assert precision_at_density(exact, 0.001).value == 1.0
    assert known(precision_at_density(broad, 0.001)).value < 0.02


def test_few_negatives_know_little_about_a_rare_feature() -> None:
    found = known(precision_at_density(judged(50, 50, 0, 50), 0.001))
    assert found.value == 1.0
    assert found.low < 0.02
    assert found.high == 1.0


@pytest.mark.parametrize(("n_hits", "n_alarms"), [(45, 3), (50, 1)])
def test_interval_covers_conservatively(n_hits: int, n_alarms: int) -> None:
    """Exact over all outcomes of 50 + 50 trials: at least 95 %, because both parts are Clopper-Pearson."""
    n, density, rates = 50, 0.01, (n_hits / 50, n_alarms / 50)
    truth = density * rates[0] / (density * rates[0] + (1 - density) * rates[1])
    hits, alarms = (stats.binom.pmf(np.arange(n + 1), n, rate) for rate in rates)
    covered = total = 0.0
    for i, j in zip(*np.nonzero(np.outer(hits, alarms) > 1e-3), strict=True):
        found = precision_at_density(judged(int(i), n, int(j), n), density)
        low, high = found.low or 0.0, 1.0 if found.high is None else found.high
        total += hits[i] * alarms[j]
        covered += hits[i] * alarms[j] * (found.low is not None and low <= truth <= high)
    assert covered / total >= 0.95


def test_an_undefined_ranking_has_a_reason_and_not_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    def undefined(*_: object) -> Statistic:
        return lambda counts: np.full(len(counts), np.nan)

    monkeypatch.setattr(prevalence, "average_precision_statistic", undefined)
    found = average_precision_at_density(make_score([1, 0], [1, 0], [0.9, 0.2]), 0.1, rng())
    assert found.value is None
    assert "cannot be ranked" in (found.reason or "")


def test_edges() -> None:
    score = judged(3, 4, 1, 4)
    for metric in (precision_at_density, f1_at_density, mcc_at_density):
        for density in (0.0, 1.0):
            assert "nothing to tell apart" in (metric(score, density).reason or "")
        with pytest.raises(InputError, match=r"1\.5"):
            metric(score, 1.5)
        failed = metric(make_score([1, 0], [None, None]), 0.1)
        assert (failed.value, failed.n, failed.n_failed) == (None, 0, 2)
        assert metric(make_score([1], [1]), 0.1).reason == "no judged trial is negative"
        assert metric(make_score([0], [1]), 0.1).reason == "no judged trial is positive"
    assert precision_at_density(judged(0, 4, 0, 4), 0.1).reason == "the judge never answered yes"
    assert mcc_at_density(judged(0, 4, 0, 4), 0.1).value == 0.0
    assert average_precision_at_density(score, 0.1, rng()).reason == "8 of 8 judged trials have no confidence"
    assert average_precision(make_score([1, 0], [1, 0], [0.9, 0.2]), rng()).value == 1.0
