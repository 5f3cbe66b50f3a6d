"""Metrics with intervals over documents: values against scikit-learn, coverage with documents that matter."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from sae_auto_interp.metrics import Resampling, average_precision, by_document, rates, tpr, wilson
from sae_auto_interp.metrics.over_documents import Metric, by_cluster
from sae_auto_interp.metrics.rates import auroc_statistic, average_precision_statistic, of_rates, share_of
from tests.metrics.scores import assert_covers, count_covered, make_score

ALL: tuple[Metric, ...] = (
    "tpr",
    "tnr",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "mcc",
    "auroc",
    "average_precision",
)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_weighted_metrics_equal_scikit_learn() -> None:
    """Random sets with many ties and whole-numbered weights, some 0."""
    generator = np.random.default_rng(3)
    for _ in range(25):
        n = int(generator.integers(6, 50))
        y, p = generator.random(n) < 0.4, np.round(generator.random(n), 1)
        y[:2] = True, False
        answers = p > 0.4
        weights = generator.integers(0, 4, size=n).astype(float)
        weights[:2] = 1
        answers[:2] = True
        found = {
            "auroc": auroc_statistic(y, p),
            "ap": average_precision_statistic(y, p),
            "tpr": share_of(y, answers),
            "ba": of_rates(rates.balanced_accuracy_of_rates, y, answers),
            "precision": of_rates(rates.precision_of_rates, y, answers),
            "f1": of_rates(rates.f1_of_rates, y, answers),
            "mcc": of_rates(rates.mcc_of_rates, y, answers),
        }
        expected = {
            "auroc": sk.roc_auc_score(y, p, sample_weight=weights),
            "ap": sk.average_precision_score(y, p, sample_weight=weights),
            "tpr": sk.recall_score(y, answers, sample_weight=weights),
            "ba": sk.balanced_accuracy_score(y, answers, sample_weight=weights),
            "precision": sk.precision_score(y, answers, sample_weight=weights),
            "f1": sk.f1_score(y, answers, sample_weight=weights),
            "mcc": sk.matthews_corrcoef(y, answers, sample_weight=weights),
        }
        for name, value in expected.items():
            assert found[name](weights[None])[0] == pytest.approx(value, abs=1e-12), name


def test_average_precision_golden() -> None:
    """By hand: recall steps of 1/2 at precision 1 and 2/3."""
    score = make_score([1, 1, 0, 0], [1, 1, 0, 0], [0.9, 0.4, 0.6, 0.1])
    assert average_precision(score, rng()).value == pytest.approx((1 + 2 / 3) / 2)
    tied = make_score([1, 0, 0, 0], [1, 1, 1, 1], [0.5] * 4)
    assert average_precision(tied, rng()).value == pytest.approx(0.25)


def test_document_bootstrap_covers_where_plain_intervals_do_not() -> None:
    """2000 features with 60 documents of 4 positives; a document's rate is Beta(4, 1): intraclass correlation 1/6."""
    generator, n_documents, size, n_sets = np.random.default_rng(5), 60, 4, 2000
    clusters = np.repeat(np.arange(n_documents), size)
    document_rates = generator.beta(4.0, 1.0, size=(n_sets, n_documents))[:, clusters]
    hits = generator.random(document_rates.shape) < document_rates
    features = [by_cluster(share_of(np.ones(n_documents * size, dtype=bool), hit), clusters) for hit in hits]
    resampling = Resampling(n_units=n_documents, unit="documents", n_resamples=500)
    assert_covers(count_covered(features, 0.8, resampling, generator), n_sets)
    plain = [wilson(int(hit.sum()), n_documents * size) for hit in hits]
    assert sum(interval.low <= 0.8 <= interval.high for interval in plain) / n_sets < 0.93


def test_document_bootstrap_of_auroc_covers() -> None:
    """2000 features, 60 documents of 2 positives or 2 negatives; a document shifts its confidences."""
    generator, n_documents, n_sets, truth = np.random.default_rng(6), 60, 2000, 0.8
    clusters = np.repeat(np.arange(n_documents), 2)
    targets = clusters < n_documents // 2
    common = generator.normal(0, np.sqrt(0.4), (n_sets, n_documents))[:, clusters]
    shift = np.sqrt(2) * stats.norm.ppf(truth)
    confidences = common + generator.normal(0, np.sqrt(0.6), common.shape) + shift * targets
    features = [by_cluster(auroc_statistic(targets, values), clusters) for values in confidences]
    resampling = Resampling(n_units=n_documents, unit="documents", n_resamples=200)
    assert_covers(count_covered(features, truth, resampling, generator), n_sets)


def test_documents_that_agree_widen_the_interval() -> None:
    targets, answers = [1] * 40 + [0] * 40, ([1] * 3 + [0]) * 10 + ([0] * 3 + [1]) * 10
    apart = by_document(make_score(targets, answers), "balanced_accuracy", rng())
    grouped = [i // 4 if i < 40 else 10 + (i - 40) // 4 for i in range(80)]
    blocks = sorted(range(40), key=lambda i: answers[i]) + sorted(range(40, 80), key=lambda i: answers[i])
    together = by_document(
        make_score(targets, [answers[i] for i in blocks], documents=grouped), "balanced_accuracy", rng()
    )
    assert apart.value == together.value == 0.75
    assert apart.low is not None
    assert together.low is not None
    assert together.low < apart.low
    assert together.method == "percentile bootstrap over documents"


@pytest.mark.parametrize("metric", ALL)
def test_edges(metric: Metric) -> None:
    failed = by_document(make_score([1, 0, 1], [None, None, None]), metric, rng())
    assert (failed.value, failed.low, failed.n, failed.n_failed) == (
        None,
        None,
        0,
        {"tpr": 2, "recall": 2, "tnr": 1}.get(metric, 3),
    )
    assert failed.reason
    perfect = by_document(make_score([1] * 9 + [0] * 9, [1] * 9 + [0] * 9, [0.9] * 9 + [0.1] * 9), metric, rng())
    assert (perfect.value, perfect.low) == (1.0, None)
    assert "same value" in (perfect.reason or "")
    one_document = make_score([1, 0, 1, 0], [1, 0, 0, 0], [0.9, 0.1, 0.2, 0.3], documents=[7] * 4)
    found = by_document(one_document, metric, rng())
    assert (found.low, found.n) == (None, 2 if metric in ("tpr", "tnr", "recall") else 4)
    assert found.value is not None
    if metric not in ("tpr", "recall"):
        assert by_document(make_score([1, 1], [1, 0], [0.9, 0.1]), metric, rng()).value is None
    if metric != "tnr":
        assert by_document(make_score([0, 0], [1, 0], [0.9, 0.1]), metric, rng()).value is None


def test_reasons() -> None:
    silent = make_score([1, 0], [0, 0])
    assert by_document(silent, "precision", rng()).reason == "the judge never answered yes"
    assert by_document(silent, "auroc", rng()).reason == "2 of 2 judged trials have no confidence"


def test_a_trial_without_a_document_is_one_of_its_own() -> None:
    answers = [1, 0, 1, 1, 0, 1] * 5
    alone = by_document(make_score([1] * 30, answers, documents=[-1] * 30), "tpr", rng())
    apart = by_document(make_score([1] * 30, answers), "tpr", rng())
    assert (alone.value, alone.low, alone.high) == (apart.value, apart.low, apart.high)
    assert alone.value == tpr(make_score([1] * 30, answers)).value
