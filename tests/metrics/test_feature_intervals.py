"""One feature's scores with intervals over documents: values, coverage, and what stands in for the bootstrap."""

from dataclasses import replace

import numpy as np
import pytest

from sae_auto_interp.errors import InputError
from sae_auto_interp.metrics import (
    auroc,
    balanced_accuracy,
    by_document,
    choice_accuracy,
    choice_accuracy_by_quantile,
    feature_auroc,
    feature_choices,
    feature_rates,
    tnr,
    tpr,
    tpr_by_quantile,
    wilson,
)
from sae_auto_interp.metrics.over_documents import BOOTSTRAP
from sae_auto_interp.types import ChoiceTrial, Score
from tests.metrics.scores import BROKEN, FEATURE, assert_covers, known, make_score


def lifelike(seed: int, per_document: int = 1) -> Score:
    """60 verdicts, 8 of them failed, positives in three quantiles."""
    rng = np.random.default_rng(seed)
    targets = [1] * 30 + [0] * 30
    answers = [None if i % 8 == 0 else int(rng.random() < (0.8 if t else 0.3)) for i, t in enumerate(targets)]
    quantiles = [i % 3 if t else None for i, t in enumerate(targets)]
    confidences = [None if a is None else round(0.6 * a + 0.4 * rng.random(), 3) for a in answers]
    return make_score(targets, answers, confidences, quantiles, documents=[i // per_document for i in range(60)])


@pytest.mark.parametrize("seed", range(5))
def test_values_and_counts_are_those_of_the_plain_metrics(seed: int) -> None:
    score = lifelike(seed, per_document=3)
    found = feature_rates(score)
    pairs = [
        (found.balanced_accuracy, balanced_accuracy(score)),
        (found.tpr, tpr(score)),
        (found.tnr, tnr(score)),
        *((found.tpr_by_quantile[q], plain) for q, plain in tpr_by_quantile(score).items()),
        (feature_auroc(score), auroc(score)),
    ]
    for ours, plain in pairs:
        assert ours.value == pytest.approx(plain.value)
        assert (ours.n, ours.n_failed, ours.reason) == (plain.n, plain.n_failed, plain.reason)
        assert known(ours).low <= known(ours).value <= known(ours).high


def test_the_interval_is_the_document_bootstrap() -> None:
    """Up to the noise of the draws, which are others."""
    score = lifelike(0, per_document=3)
    ours = known(feature_rates(score).balanced_accuracy)
    other = known(by_document(score, "balanced_accuracy", np.random.default_rng(0), n_resamples=20_000))
    assert ours.low == pytest.approx(other.low, abs=0.02)
    assert ours.high == pytest.approx(other.high, abs=0.02)
    assert feature_rates(score).balanced_accuracy.method == "percentile bootstrap over documents"


def test_windows_of_one_document_count_less_than_windows_of_many() -> None:
    """The same verdicts, alike within documents of 5."""
    rng = np.random.default_rng(1)
    verdicts = np.repeat(rng.random(24) < 0.75, 5).astype(int).tolist()
    targets = [1] * 60 + [0] * 60
    answers = [v if t else 1 - v for v, t in zip(verdicts, targets, strict=True)]
    widths = [
        known(e).high - known(e).low
        for documents in (range(120), [i // 5 for i in range(120)])
        for e in [feature_rates(make_score(targets, answers, documents=list(documents))).balanced_accuracy]
    ]
    assert widths[1] == pytest.approx(widths[0] * 5**0.5, rel=0.15)


def test_coverage_with_documents_that_matter() -> None:
    """40 documents of 4 windows each, rates of a document spread around .8 and .7."""
    rng = np.random.default_rng(11)
    n_covered, n_sets = 0, 2000
    targets, documents = [1, 1, 0, 0] * 40, np.repeat(np.arange(40), 4).tolist()
    for _ in range(n_sets):
        hit, passed = np.repeat(rng.beta(4, 1, 40), 4), np.repeat(rng.beta(7, 3, 40), 4)
        right = rng.random(160) < np.where(np.array(targets) == 1, hit, passed)
        answers = [int(t == r) for t, r in zip(targets, right, strict=True)]
        found = known(feature_rates(make_score(targets, answers, documents=documents)).balanced_accuracy)
        n_covered += found.low <= 0.75 <= found.high
    assert_covers(n_covered, n_sets)


def test_a_perfect_judge_has_the_interval_of_its_documents() -> None:
    score = make_score([1] * 20 + [0] * 20, [1] * 20 + [0] * 20, documents=[i // 4 for i in range(40)])
    found = feature_rates(score)
    assert found.tpr.method == "Wilson, one trial per document"
    assert (known(found.tpr).low, known(found.tpr).high) == (wilson(5, 5).low, 1.0)
    assert found.balanced_accuracy.method == "square-and-add, one trial per document"
    assert known(found.balanced_accuracy).low < 0.7
    ranked = feature_auroc(replace(score, trials=tuple(replace(t, confidence=float(t.target)) for t in score.trials)))
    assert ranked.method == "Newcombe, one trial per document"
    assert known(ranked).low < 0.8


def test_one_document_and_rare_classes_get_a_closed_interval() -> None:
    one = feature_rates(make_score([1, 1, 0, 0], [1, 0, 0, 0], documents=[3] * 4))
    assert known(one.tpr).high - known(one.tpr).low > 0.7
    lone = feature_rates(make_score([1] + [0] * 20, [1] + [0, 1] * 10))
    assert lone.tpr.method == "Wilson, one trial per document"
    assert known(lone.balanced_accuracy).low < 0.5


def test_a_rate_without_spread_keeps_its_width_in_the_mean() -> None:
    """All firing windows were found, and they are of five documents: so much is known of that half."""
    documents = [100 + i % 5 for i in range(20)] + list(range(20))
    found = feature_rates(make_score([1] * 20 + [0] * 20, [1] * 20 + [0] * 18 + [1] * 2, documents=documents))
    assert (found.tpr.method, found.tnr.method) == ("Wilson, one trial per document", BOOTSTRAP)
    assert found.balanced_accuracy.method == "square-and-add, one trial per document"
    assert known(found.balanced_accuracy).low <= (known(found.tpr).low + known(found.tnr).value) / 2


def test_undefined_is_undefined_with_the_reason() -> None:
    found = feature_rates(make_score([1, 1, 0], [1, 0, None], quantiles=[0, 1, None]))
    assert (found.balanced_accuracy.value, found.balanced_accuracy.reason) == (None, "no judged trial is negative")
    assert (found.balanced_accuracy.n, found.balanced_accuracy.n_failed) == (2, 1)
    assert (found.tnr.value, found.tnr.n, found.tnr.n_failed) == (None, 0, 1)
    assert feature_rates(make_score([], [])).balanced_accuracy.reason == "no judged trial is positive"
    failed = feature_rates(make_score([1, 1], [None, 1], quantiles=[0, 1])).tpr_by_quantile
    assert (failed[0].value, failed[0].n, failed[0].n_failed) == (None, 0, 1)
    assert feature_auroc(make_score([1, 0], [1, 0])).reason == "2 of 2 judged trials have no confidence"
    with pytest.raises(InputError, match="not choice"):
        feature_choices(lifelike(0))


def test_choices() -> None:
    trials = [ChoiceTrial(0, 0 if i % 4 else 1, 5, "random", i % 2, i // 2) for i in range(40)]
    broken = ChoiceTrial(0, None, 5, "random", 1, 99, BROKEN)
    score = Score(FEATURE, "intruder", "x", "choice", (), choices=(*trials, broken))
    found = feature_choices(score)
    plain = choice_accuracy(score)
    assert (found.accuracy.value, found.accuracy.n, found.accuracy.n_failed) == (plain.value, 40, 1)
    assert {q: (e.value, e.n, e.n_failed) for q, e in found.by_quantile.items()} == {
        q: (e.value, e.n, e.n_failed) for q, e in choice_accuracy_by_quantile(score).items()
    }
    assert known(found.accuracy).low < 0.75 < known(found.accuracy).high


def test_the_same_score_has_the_same_interval() -> None:
    assert feature_rates(lifelike(3)) == feature_rates(lifelike(3))
