"""Metrics of one score against hand-worked goldens, scikit-learn, and their own edge cases."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from sae_auto_interp.errors import InputError
from sae_auto_interp.metrics import (
    auroc,
    balanced_accuracy,
    classification_metrics,
    confusion,
    f1,
    mcc,
    precision,
    recall,
    tnr,
    tnr_by_source,
    tpr,
    tpr_by_quantile,
)
from sae_auto_interp.metrics.judged_trials import mann_whitney, newcombe_interval
from sae_auto_interp.types import Estimate, Score
from tests.metrics.scores import FEATURE, make_score

GOLDEN = make_score([1, 1, 1, 0, 0], [1, 1, 0, 0, 1])


def test_golden_values() -> None:
    assert precision(GOLDEN).value == pytest.approx(2 / 3)
    assert recall(GOLDEN).value == pytest.approx(2 / 3)
    assert f1(GOLDEN).value == pytest.approx(2 / 3)
    assert tnr(GOLDEN).value == pytest.approx(1 / 2)
    assert balanced_accuracy(GOLDEN).value == pytest.approx(7 / 12)
    assert mcc(GOLDEN).value == pytest.approx((2 * 1 - 1 * 1) / np.sqrt(3 * 3 * 2 * 2))
    assert (balanced_accuracy(GOLDEN).n, balanced_accuracy(GOLDEN).n_failed) == (5, 0)


@pytest.mark.parametrize("target", [0, 1])
def test_a_failed_trial_is_counted_and_is_in_no_metric(target: int) -> None:
    with_failure = make_score([1, 1, 1, 0, 0, target], [1, 1, 0, 0, 1, None])
    before, after = classification_metrics(GOLDEN), classification_metrics(with_failure)
    for name in ("tpr", "tnr", "balanced_accuracy", "precision", "recall", "f1", "mcc"):
        old, new = getattr(before, name), getattr(after, name)
        assert (old.value, old.low, old.high, old.n) == (new.value, new.low, new.high, new.n), name
    assert after.balanced_accuracy.n_failed == 1
    assert (after.tpr.n_failed, after.tnr.n_failed) == (target, 1 - target)


def test_everything_failed() -> None:
    metrics = classification_metrics(make_score([1, 0, 1], [None, None, None]))
    for name in ("tpr", "tnr", "balanced_accuracy", "precision", "f1", "mcc", "auroc"):
        estimate = getattr(metrics, name)
        assert (estimate.value, estimate.low, estimate.high, estimate.n) == (None, None, None, 0), name
        assert estimate.reason, name
    assert metrics.balanced_accuracy.n_failed == 3


@pytest.mark.parametrize(("targets", "word"), [([1, 1], "negative"), ([0, 0], "positive"), ([], "positive")])
def test_one_class_absent_is_undefined_with_a_reason(targets: list[int], word: str) -> None:
    score = make_score(targets, [1] * len(targets), [0.5] * len(targets))
    for metric in (balanced_accuracy, precision, f1, mcc, auroc):
        estimate = metric(score)
        assert estimate.value is None, metric.__name__
        assert word in (estimate.reason or ""), metric.__name__
    defined = {"negative": tpr, "positive": tnr}[word]
    assert (defined(score).value is None) == (not targets)


@pytest.mark.parametrize("answer", [0, 1])
def test_a_judge_that_ignores_the_explanation_is_at_chance(answer: int) -> None:
    score = make_score([1] * 30 + [0] * 10, [answer] * 40)
    assert balanced_accuracy(score).value == 0.5
    assert mcc(score).value == 0.0
    if answer == 0:
        assert precision(score).reason == "the judge never answered yes"
        assert f1(score).value == 0.0


def test_a_perfect_judge_still_has_a_width() -> None:
    score = make_score([1] * 10 + [0] * 10, [1] * 10 + [0] * 10, [0.9] * 10 + [0.1] * 10)
    for metric in (tpr, tnr, balanced_accuracy, f1, mcc, auroc, precision):
        estimate = metric(score)
        assert estimate.value == pytest.approx(1.0), metric.__name__
        assert estimate.low is not None
        assert estimate.high is not None
        assert 0.3 < estimate.low < 0.95, metric.__name__
        assert estimate.high == pytest.approx(1.0), metric.__name__


def test_values_equal_scikit_learn_and_lie_in_their_intervals() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        y = rng.integers(0, 2, size=int(rng.integers(6, 60)))
        y[:2] = 0, 1
        p = np.round(rng.random(len(y)), 1)
        answers = (p > 0.4).astype(int)
        answers[:2] = 1, 1
        score = make_score(y.tolist(), answers.tolist(), p.tolist())
        expected = {
            tpr: sk.recall_score(y, answers),
            precision: sk.precision_score(y, answers),
            f1: sk.f1_score(y, answers),
            balanced_accuracy: sk.balanced_accuracy_score(y, answers),
            mcc: sk.matthews_corrcoef(y, answers),
            auroc: sk.roc_auc_score(y, p),
        }
        for metric, value in expected.items():
            estimate = metric(score)
            assert estimate.value == pytest.approx(value, abs=1e-12), metric.__name__
            assert estimate.low is not None
            assert estimate.high is not None
            assert estimate.low - 1e-12 <= value <= estimate.high + 1e-12


def test_auroc_golden_and_ties() -> None:
    assert auroc(make_score([1, 1, 0, 0], [1, 1, 0, 0], [0.9, 0.4, 0.6, 0.1])).value == 0.75
    assert auroc(make_score([1, 1, 0, 0], [1, 1, 1, 1], [0.5] * 4)).value == 0.5


def test_auroc_needs_every_confidence() -> None:
    estimate = auroc(make_score([1, 1, 0, 0], [1, 1, 0, 0], [0.9, None, 0.6, 0.1]))
    assert estimate.value is None
    assert estimate.reason == "1 of 4 judged trials have no confidence"
    failed_only = auroc(make_score([1, 1, 0, 0], [1, None, 0, 0], [0.9, None, 0.6, 0.1]))
    assert (failed_only.value, failed_only.n, failed_only.n_failed) == (1.0, 3, 1)
    assert auroc(make_score([1, 0], [1, 0], [float("nan"), 0.2])).value is None


def test_auroc_interval_covers_at_its_nominal_rate() -> None:
    """1000 sets of 50 + 50 binormal confidences: the share covered has SE 0.0069, so 0.02 is three of them."""
    rng, n_sets, truth = np.random.default_rng(4), 1000, 0.75
    shift = np.sqrt(2) * stats.norm.ppf(truth)
    covered = 0
    for _ in range(n_sets):
        area = mann_whitney(rng.normal(shift, 1.0, 50), rng.normal(0.0, 1.0, 50))
        interval = newcombe_interval(area, 50, 50)
        covered += interval.low <= truth <= interval.high
    assert 0.93 <= covered / n_sets <= 0.97


@pytest.mark.parametrize("metric", [f1, mcc])
def test_curved_metrics_cover_at_their_nominal_rate(metric: Callable[[Score], Estimate]) -> None:
    """Exact, as for balanced accuracy: every outcome of 25 + 25 trials with its probability."""
    n, true_tpr, true_tnr = 25, 0.8, 0.7
    weights = np.outer(stats.binom.pmf(np.arange(n + 1), n, true_tpr), stats.binom.pmf(np.arange(n + 1), n, true_tnr))
    large = 1000
    truth = metric(
        make_score(
            [1] * large + [0] * large,
            [1] * int(large * true_tpr)
            + [0] * int(large * (1 - true_tpr) + 0.5)
            + [0] * int(large * true_tnr)
            + [1] * int(large * (1 - true_tnr) + 0.5),
        )
    ).value
    coverage = 0.0
    for tp, tn in zip(*np.nonzero(weights > 1e-5), strict=True):
        estimate = metric(make_score([1] * n + [0] * n, [1] * tp + [0] * (n - tp) + [0] * tn + [1] * (n - tn)))
        assert estimate.low is not None
        assert estimate.high is not None
        assert truth is not None
        coverage += weights[tp, tn] * (estimate.low <= truth <= estimate.high)
    assert 0.93 <= coverage <= 0.97


def test_tpr_by_quantile_counts_positives_only() -> None:
    score = make_score([1, 1, 1, 1, 1, 0, 0], [1, 1, 0, None, 1, 1, 0], quantiles=[0, 0, 1, 1, None, 0, None])
    rates = tpr_by_quantile(score)
    assert list(rates) == [0, 1]
    assert (rates[0].value, rates[0].n, rates[0].n_failed) == (1.0, 2, 0)
    assert (rates[1].value, rates[1].n, rates[1].n_failed) == (0.0, 1, 1)


def test_tnr_by_source_shows_what_an_over_broad_explanation_loses() -> None:
    score = make_score(
        [1, 0, 0, 0, 0, 0, 0],
        [1, 0, 0, 1, 1, 0, None],
        sources=["activating", "random", "random", "neighbour", "neighbour", "neighbour", "similar"],
    )
    rates = tnr_by_source(score)
    assert list(rates) == ["neighbour", "random", "similar"]
    assert (rates["random"].value, rates["random"].n) == (1.0, 2)
    assert rates["neighbour"].value == pytest.approx(1 / 3)
    assert (rates["similar"].value, rates["similar"].n_failed) == (None, 1)
    assert tnr_by_source(make_score([1], [1])) == {}


def test_the_order_of_trials_changes_nothing() -> None:
    score = make_score([1, 0, 1, 0, 1, 0], [1, 0, None, 1, 0, 0], [0.9, 0.2, None, 0.8, 0.4, 0.1])
    turned = Score(score.feature, score.scorer, score.explanation_id, score.kind, score.trials[::-1])
    assert classification_metrics(score) == classification_metrics(turned)


def test_swapping_the_classes_swaps_the_rates() -> None:
    score = make_score([1, 1, 1, 0, 0], [1, 0, 0, 0, 1])
    mirrored = make_score([0, 0, 0, 1, 1], [0, 1, 1, 1, 0])
    assert tpr(score).value == tnr(mirrored).value
    assert balanced_accuracy(score).value == balanced_accuracy(mirrored).value


def test_a_regression_score_is_a_mistake() -> None:
    with pytest.raises(InputError, match="simulation"):
        confusion(Score(FEATURE, "simulation", "x", "simulation", ()))
