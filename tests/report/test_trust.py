"""Agreement, choices among candidates, bounds and evidence, against independent formulas."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from sae_auto_interp.metrics import balanced_accuracy
from sae_auto_interp.report import RunSummary, Variant, summarise
from sae_auto_interp.results import RESULTS_FILE, ResultStore
from sae_auto_interp.types import Explanation, FeatureId, Score, Trial
from tests.support.rich_run import JUDGE, OTHER_JUDGE, write_rich_run


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("run")
    write_rich_run(run_dir, n_features=6)
    return run_dir


@pytest.fixture(scope="module")
def summary(run_dir: Path) -> RunSummary:
    return summarise(run_dir, n_resamples=300)


def scores_of(run_dir: Path, explainer: str, scorer: str, judge: str) -> list[Score]:
    with ResultStore.open(run_dir / RESULTS_FILE, read_only=True) as store:
        return [
            score
            for name, score in store.scores()
            if (name, score.scorer) == (judge, scorer) and score.explanation_id.startswith(f"{explainer}/")
        ]


def test_judges_agree_as_scikit_learn_says(run_dir: Path, summary: RunSummary) -> None:
    (row,) = (r for r in summary.agreements if r.differs == "judge" and r.first.scorer == "detection")
    assert (row.first, row.second) == (
        Variant("simple", "detection", JUDGE), Variant("simple", "detection", OTHER_JUDGE)
    )  # fmt: skip
    first, second = (
        [t for s in scores_of(run_dir, "simple", "detection", judge) for t in s.trials]
        for judge in (JUDGE, OTHER_JUDGE)
    )
    both = [
        (a.prediction, b.prediction)
        for a, b in zip(first, second, strict=True)
        if a.prediction is not None and b.prediction is not None
    ]
    assert row.agreement.value == pytest.approx(cohen_kappa_score(*zip(*both, strict=True)))
    assert row.equal is not None
    assert row.equal.value == pytest.approx(np.mean([a == b for a, b in both]))
    assert (row.agreement.n, row.agreement.n_failed) == (len(both), len(first) - len(both))
    assert row.agreement.method == "percentile bootstrap over features"
    assert row.agreement.low is not None


def test_every_pair_that_differs_in_one_thing_is_there_once(summary: RunSummary) -> None:
    pairs = [(row.differs, row.first, row.second) for row in summary.agreements]
    assert len(pairs) == len(set(pairs))
    counts = {kind: sum(row[0] == kind for row in pairs) for kind in ("judge", "explainer", "test")}
    # tests: detection, fuzzing, intruder, simulation of simple by one judge (6 pairs); 1 pair each for the other three
    assert counts == {"judge": 2, "explainer": 2, "test": 9}
    assert not any("shuffled" in row.first.explainer for row in summary.agreements)


def test_tests_agree_by_the_correlation_of_their_features(run_dir: Path, summary: RunSummary) -> None:
    (row,) = (
        r
        for r in summary.agreements
        if r.differs == "test" and r.first.explainer == "best_of_n" and r.first.scorer == "detection"
    )
    columns = [
        [balanced_accuracy(score).value for score in scores_of(run_dir, "best_of_n", scorer, JUDGE)]
        for scorer in ("detection", "fuzzing")
    ]
    expected = np.corrcoef(np.array(columns, dtype=float))[0, 1]
    assert row.agreement.value == pytest.approx(expected)
    assert (row.agreement.n, row.equal) == (6, None)


def test_other_questions_are_not_compared(tmp_path: Path) -> None:
    feature = FeatureId("m", 0)
    with ResultStore.open(tmp_path / RESULTS_FILE) as store:
        store.add_explanation(Explanation(feature, "x", "simple", "p"), f"simple/{feature}")
        for judge, documents in (("llm:a", (1, 2)), ("llm:b", (2, 1))):
            trials = tuple(Trial(i == 0, True, None, "random", None, d) for i, d in enumerate(documents))
            store.add_score(Score(feature, "detection", f"simple/{feature}", "classification", trials), judge)
    (row,) = summarise(tmp_path, n_resamples=20).agreements
    assert (row.agreement.value, row.n_features) == (None, 0)
    assert row.agreement.reason == "the two did not ask the same questions in the same order"


def test_the_choice_stands_beside_the_untouched_test(summary: RunSummary) -> None:
    (row,) = summary.choices
    assert row.variant == Variant("best_of_n", "detection", JUDGE)
    assert row.n_candidates == 3
    chosen = [(24 / 25 + (22 - i) / 25) / 2 for i in range(6)]
    assert row.development.estimate.value == pytest.approx(np.mean(chosen))
    others = [(15 / 25 + 13 / 25) / 2, (9 / 25 + 20 / 24) / 2]
    assert row.unchosen.estimate.value == pytest.approx(np.mean(others))
    shown = next(v for v in summary.variants if v.variant == row.variant)
    assert row.test.estimate.value == shown.balanced_accuracy.estimate.value
    assert row.optimism.value == pytest.approx(np.mean(chosen) - (row.test.estimate.value or 0))
    assert row.optimism.n == 6
    (explainer, tried) = summary.features[0].tried[0]
    assert explainer == "best_of_n"
    assert [t.is_chosen for t in tried] == [False, True, False]
    assert all(t.development.low is not None for t in tried)


def test_bounds_hold_the_score_for_every_kind(summary: RunSummary) -> None:
    rows = {row.variant.scorer: row for row in summary.others}
    assert set(rows) == {"embedding", "intruder_explained", "simulation", "sensitivity"}
    for name, row in rows.items():
        low, value, high = row.if_all_wrong.value, row.own.estimate.value, row.if_all_right.value
        assert low is not None
        assert value is not None
        assert high is not None
        assert (low == value == high) if name == "sensitivity" else (low < value < high), name
        assert row.if_all_wrong.n_failed == 0
    assert rows["sensitivity"].metric == "found"
    assert "sensitivity" not in {row.variant.scorer for row in summary.variants}
    assert [q for q, _ in rows["intruder_explained"].by_quantile] == list(range(10))


def test_features_have_every_kind_of_score_with_an_interval(summary: RunSummary) -> None:
    for feature in summary.features:
        assert {other.metric for other in feature.others} == {"AUROC", "accuracy", "correlation", "found"}
        for other in feature.others:
            assert other.own.low is not None, other
            assert (other.shuffled is None) == (other.variant.explainer != "simple")
        assert {score.balanced_accuracy.method for score in feature.scores} <= {
            "percentile bootstrap over documents",
            "square-and-add, one trial per document",
        }


def test_what_there_was_to_go_by_is_counted(summary: RunSummary) -> None:
    counts = summary.evidence
    assert (counts.n_records, counts.n_profiled, counts.n_with_logits) == (6, 6, 6)
    assert dict(counts.labels) == {"single_token": 2, "dense": 1, "positional": 1, "previous_token": 1}
    assert dict(counts.skipped) == {"rare": 2, "dead": 1, "too_few_examples": 1}
    (short,) = counts.shortages
    assert (short.n_features, short.n_without, short.n_found, short.n_wanted) == (2, 1, 7, 50)
    first = summary.features[0].evidence
    assert first is not None
    assert first.density.low is not None
    assert first.logits is not None
