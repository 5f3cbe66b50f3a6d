"""What a run's results come to: variants beside their controls, features in order, failures counted once."""

from dataclasses import replace
from pathlib import Path

import pytest

from sae_auto_interp.errors import CacheError
from sae_auto_interp.metrics import balanced_accuracy
from sae_auto_interp.report import RunSummary, Variant, summarise
from sae_auto_interp.report.summary.failures import failures_by_feature, group_failures
from sae_auto_interp.results import RESULTS_FILE, ResultStore
from sae_auto_interp.types import Explanation, Failure, FeatureId, Score, Trial
from tests.support.run_fixture import explanations_of, feature_of, make_record, make_score, write_run

N_RESAMPLES = 500


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> RunSummary:
    run_dir = tmp_path_factory.mktemp("run")
    write_run(run_dir)
    return summarise(run_dir, n_resamples=N_RESAMPLES)


def trials_of(n_right: int, n_wrong: int, n_failed: int = 0) -> tuple[Trial, ...]:
    """Half positives: `n_right` and `n_wrong` of each class, and failures among the positives."""
    broken = Failure("score", "timeout", "late")
    both = [
        Trial(target, target == is_right, None, "activating" if target else "random", None, 0)
        for target in (True, False)
        for is_right in [True] * n_right + [False] * n_wrong
    ]
    return (*both, *[Trial(True, None, None, "activating", None, 0, broken)] * n_failed)


def write_scores(path: Path, rows: dict[tuple[str, str, str, int], tuple[Trial, ...]]) -> None:
    """(explainer, scorer, judge, feature index) -> trials."""
    with ResultStore.open(path) as store:
        for (explainer, scorer, judge, index), trials in rows.items():
            feature = FeatureId("m", index)
            explanation_id = f"{explainer}/{feature}"
            store.add_explanation(Explanation(feature, f"text {index}", explainer, "p"), explanation_id)
            store.add_score(Score(feature, scorer, explanation_id, "classification", trials), judge)


def test_variants_stand_beside_their_controls(summary: RunSummary) -> None:
    variants = [row.variant for row in summary.variants]
    assert variants == [
        Variant("simple", "detection", "demo-model-8b"),
        Variant("simple", "fuzzing", "demo-model-8b"),
        Variant("lexical", "detection", "lexical"),
        Variant("lexical", "fuzzing", "lexical"),
    ]
    for row in summary.variants:
        own, control, difference = row.balanced_accuracy.estimate, row.shuffled.estimate, row.difference
        assert own.value is not None
        assert control.value is not None
        assert difference.value == pytest.approx(own.value - control.value)
        assert difference.n == own.n == row.n_features == (11 if row.variant.explainer == "simple" else 12)
        assert control.low is not None
        assert control.high is not None
        assert abs(control.value - 0.5) < 0.1
        assert difference.low is not None
        assert difference.low > 0
        assert own.n_failed == sum(count for _, count in row.failed_trials) > 0
        assert difference.n_failed == own.n_failed + control.n_failed
        assert row.n_trials == 60 * row.n_features


def test_means_are_those_of_the_single_scores(summary: RunSummary) -> None:
    values: list[float] = []
    for number in range(12):
        for explanation, _, quality in explanations_of(number, 12, hostile=False):
            if explanation.explainer == "lexical":
                name = f"lexical/{explanation.feature}"
                score = make_score(make_record(number), "fuzzing", name, quality)
                values.append(balanced_accuracy(score).value or 0.0)
    found = next(row for row in summary.variants if row.variant == Variant("lexical", "fuzzing", "lexical"))
    assert found.balanced_accuracy.estimate.value == pytest.approx(sum(values) / 12)


def test_features_are_sorted_by_the_primary_explainer_and_the_unscored_is_last(summary: RunSummary) -> None:
    assert summary.primary == Variant("simple", "detection", "demo-model-8b")
    values = [feature.sort_value for feature in summary.features]
    assert values[-1] is None
    assert values[:-1] == sorted((v for v in values if v is not None), reverse=True)
    last = summary.features[-1]
    assert last.feature == feature_of(9)
    assert [e.explainer for e in last.explanations] == ["lexical"]
    assert [failure.kind for failure in last.failures] == ["unparsable"]
    first = summary.features[0]
    assert [e.explainer for e in first.explanations] == ["simple", "lexical"]
    primary = [score.balanced_accuracy.value for score in summary.primary_scores(first) if score is not None]
    assert first.sort_value == pytest.approx(sum(v or 0.0 for v in primary) / 2)
    assert all(score.shuffled is not None for score in first.scores)
    assert [q for q, _ in first.scores[0].tpr_by_quantile] == list(range(10))


def test_failures_are_counted_by_kind(summary: RunSummary) -> None:
    by_kind = {(group.stage, group.kind): group.count for group in summary.failures}
    assert by_kind["explain", "unparsable"] == 1
    assert by_kind["explain", "timeout"] == 1
    own = sum(row.balanced_accuracy.estimate.n_failed for row in summary.variants)
    controls = sum(row.shuffled.estimate.n_failed for row in summary.variants)
    assert by_kind["score", "unparsable"] == own + controls
    failed = {explainer.name: explainer.failed for explainer in summary.explainers}
    assert failed == {"simple": (("timeout", 1), ("unparsable", 1)), "lexical": ()}
    assert {explainer.name: explainer.n_explanations for explainer in summary.explainers} == {
        "simple": 11,
        "lexical": 12,
    }


def test_usage_is_the_sum_of_all_that_was_asked(summary: RunSummary) -> None:
    assert summary.usage.n_requests == 11 + 12 * (2 * 2 * 12 + 2 * 2 * 11)


def test_the_same_run_gives_the_same_summary(tmp_path: Path) -> None:
    write_run(tmp_path / "a", n_features=4)
    write_run(tmp_path / "b", n_features=4)
    assert summarise(tmp_path / "a", n_resamples=50) == summarise(tmp_path / "b", n_resamples=50)


def test_without_a_language_model_the_lexical_explainer_is_the_primary_one(tmp_path: Path) -> None:
    write_scores(tmp_path / RESULTS_FILE, {("lexical", "detection", "lexical", 0): trials_of(9, 1)})
    summary = summarise(tmp_path, n_resamples=50)
    assert summary.primary == Variant("lexical", "detection", "lexical")
    (row,) = summary.variants
    assert (row.balanced_accuracy.estimate.value, row.balanced_accuracy.estimate.low) == (0.9, None)
    assert (row.shuffled.estimate.value, row.shuffled.estimate.reason) == (None, "no feature was scored")
    assert row.difference.value is None
    assert row.skill.value is None
    assert summary.features[0].stats is None
    assert summary.features[0].sort_value == 0.9


def test_a_feature_with_one_of_two_tests_is_last(tmp_path: Path) -> None:
    write_scores(
        tmp_path / RESULTS_FILE,
        {
            ("simple", "detection", "llm", 0): trials_of(10, 0),
            ("simple", "detection", "llm", 1): trials_of(6, 4),
            ("simple", "fuzzing", "llm", 1): trials_of(6, 4),
            ("simple", "fuzzing", "llm", 2): trials_of(0, 0, n_failed=3),
            ("simple", "detection", "llm", 2): trials_of(8, 2),
        },
    )
    summary = summarise(tmp_path, n_resamples=50)
    assert [(f.feature.index, f.sort_value) for f in summary.features] == [(1, 0.6), (0, None), (2, None)]
    fuzzing = summary.variants[1].balanced_accuracy
    assert (fuzzing.estimate.n, fuzzing.n_undefined, fuzzing.estimate.n_failed) == (1, 1, 3)
    assert fuzzing.undefined_reasons == (("no judged trial is positive", 1),)


def test_judges_and_modules_do_not_mix(tmp_path: Path) -> None:
    write_scores(
        tmp_path / RESULTS_FILE,
        {
            ("simple", "detection", "lexical", 0): trials_of(5, 5),
            ("simple", "detection", "llm", 0): trials_of(9, 1),
            ("shuffled:simple", "detection", "llm", 0): trials_of(4, 6),
        },
    )
    summary = summarise(tmp_path, n_resamples=50)
    rows = {row.variant.judge: row for row in summary.variants}
    assert summary.primary == Variant("simple", "detection", "llm")
    assert rows["llm"].difference.value == pytest.approx(0.5)
    assert rows["llm"].skill.value == pytest.approx(0.5 / 0.6)
    assert rows["lexical"].difference.value is None


def test_a_score_whose_explanation_is_not_stored_is_attributed_by_its_id(tmp_path: Path) -> None:
    feature = FeatureId("model/layers.1", 3)
    with ResultStore.open(tmp_path / RESULTS_FILE) as store:
        score = Score(feature, "detection", f"package.module:Mine/{feature}", "classification", trials_of(3, 1))
        store.add_score(score, "llm")
        store.add_score(replace(score, scorer="simulation", kind="simulation"), "llm")
    summary = summarise(tmp_path, n_resamples=50)
    assert [row.variant for row in summary.variants] == [Variant("package.module:Mine", "detection", "llm")]


def test_an_empty_run(tmp_path: Path) -> None:
    ResultStore.open(tmp_path / RESULTS_FILE).close()
    summary = summarise(tmp_path)
    assert (summary.primary, summary.variants, summary.features, summary.failures) == (None, (), (), ())
    assert summary.primary_scorers == ()
    with pytest.raises(CacheError, match="no results"):
        summarise(tmp_path / "elsewhere")


def test_units_are_matched_whole() -> None:
    one, ten = FeatureId("layers.1", 7), FeatureId("layers.10", 7)
    nested = FeatureId("model/layers.1", 7)
    failure = Failure("explain", "timeout", "late")
    units = ["simple/layers.1:7", "layers.10:7", "detection/llm/simple/model/layers.1:7", "simple/layers.1:70"]
    found = failures_by_feature([(unit, failure) for unit in units], [one, ten, nested])
    assert {feature: len(failures) for feature, failures in found.items()} == {one: 1, ten: 1, nested: 1}


def test_samples_differ_in_their_message() -> None:
    failures = [("u", Failure("explain", "timeout", f"late {i % 5}")) for i in range(50)]
    (group,) = group_failures(failures, [])
    assert (group.count, [sample.message for sample in group.samples]) == (50, ["late 0", "late 1", "late 2"])


def test_figures_in_text_are_of_detection_only(summary: RunSummary) -> None:
    """Fuzzing does not ask in which windows a feature fires."""
    for row in summary.variants:
        shown = {name for name, _ in row.further.metrics} & {"precision in text", "F1 in text"}
        assert shown == ({"precision in text", "F1 in text"} if row.variant.scorer == "detection" else set())
    scores = [score for feature in summary.features for score in feature.scores]
    assert {score.variant.scorer for score in scores} == {"detection", "fuzzing"}
    for score in scores:
        assert (score.precision_in_text is not None) == (score.variant.scorer == "detection")


def test_what_was_shortened_to_fit_a_context_is_told_of(tmp_path: Path) -> None:
    feature = FeatureId("m", 3)
    with ResultStore.open(tmp_path / "results.sqlite") as store:
        store.add_explanation(Explanation(feature, "cats", "simple", "p", n_shown=7), "simple/m:3")
        score = Score(feature, "detection", "simple/m:3", "classification", trials_of(5, 1))
        store.add_score(replace(score, n_split=2), "llm:small")
    told = summarise(tmp_path, n_resamples=20).info["prompts_shortened_to_fit"]
    assert told == "1 with fewer examples (explaining); 2 shown in smaller groups (judging)"


def test_a_run_in_which_all_fitted_says_nothing_of_it(summary: RunSummary) -> None:
    assert "prompts_shortened_to_fit" not in summary.info
