"""Baselines beside every score: found where the run has them, skill by the formula, tests feature by feature."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sae_auto_interp.report import run_table, summarise, write_report
from sae_auto_interp.report.display import two_lines
from sae_auto_interp.report.summary.baselines import above_chance, above_shuffled
from sae_auto_interp.report.summary.values import RunSummary, VariantSummary
from sae_auto_interp.results import RESULTS_FILE, ResultStore
from sae_auto_interp.types import Explanation, FeatureId, Score, Trial
from tests.support.run_fixture import make_record, make_score, write_run

JUDGE = "demo-model-8b"


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> RunSummary:
    """A run in which five features were also judged with the explanation hidden, and by the nearest one's."""
    folder = tmp_path_factory.mktemp("run")
    write_run(folder)
    with ResultStore.open(folder / RESULTS_FILE) as store:
        for number in range(5):
            record = make_record(number)
            named = f"simple/{record.feature}"
            with store.unit("score", f"detection/hidden:{JUDGE}/{named}"):
                store.add_score(make_score(record, "detection", named, 0.5, seed=7), f"hidden:{JUDGE}")
            nearest = Explanation(record.feature, "words of the same kind", "nearest:simple", "simple-1")
            with store.unit("score", f"detection/{JUDGE}/nearest:{named}"):
                store.add_explanation(nearest, f"nearest:{named}")
                store.add_score(make_score(record, "detection", f"nearest:{named}", 0.6, seed=8), JUDGE)
    return summarise(folder, n_resamples=200)


def variant(summary: RunSummary, explainer: str, scorer: str, judge: str) -> VariantSummary:
    (found,) = (v for v in summary.variants if (v.variant.explainer, v.variant.scorer, v.variant.judge)
                == (explainer, scorer, judge))  # fmt: skip
    return found


def test_each_score_stands_beside_the_baselines_that_the_run_has(summary: RunSummary) -> None:
    names = {
        (v.variant.explainer, v.variant.scorer, v.variant.judge): [b.name for b in v.baselines]
        for v in summary.variants
    }
    assert names == {
        ("simple", "detection", JUDGE): ["shuffled", "nearest", "lexical", "hidden", "constant"],
        ("simple", "fuzzing", JUDGE): ["shuffled", "lexical", "constant"],
        ("simple", "detection", f"hidden:{JUDGE}"): [],
        ("lexical", "detection", "lexical"): ["shuffled", "constant"],
        ("lexical", "fuzzing", "lexical"): ["shuffled", "constant"],
    }


def test_skill_is_the_share_of_what_there_was_to_gain(summary: RunSummary) -> None:
    own = variant(summary, "simple", "detection", JUDGE)
    found = {each.name: each for each in own.baselines}
    value = {each.feature: s.balanced_accuracy.value for each in summary.features for s in each.scores
             if s.variant == own.variant}  # fmt: skip
    mean = np.mean([v for v in value.values() if v is not None])
    assert found["constant"].balanced_accuracy.value == 0.5
    assert found["constant"].skill.value == pytest.approx((mean - 0.5) / 0.5)
    assert found["shuffled"].skill.value == pytest.approx(own.skill.value)
    hidden = variant(summary, "simple", "detection", f"hidden:{JUDGE}")
    base = hidden.balanced_accuracy.estimate.value
    assert found["hidden"].balanced_accuracy.value == pytest.approx(base)
    assert found["hidden"].skill.n == 5
    assert found["nearest"].balanced_accuracy.n == found["nearest"].skill.n == 5
    for each in found.values():
        assert each.skill.low is not None
        assert each.skill.value is not None
        assert each.skill.low <= each.skill.value


def test_the_table_shows_them(summary: RunSummary) -> None:
    from rich.console import Console

    console = Console(width=140, record=True)
    with console.capture() as captured:
        console.print(run_table(summary))
    text = captured.get()
    assert "Baselines: their balanced accuracy" in text
    for heading in ("Shuffled", "Nearest", "Lexical", "Hidden", "Features above", "chance ", "shuffled ", " n=5"):
        assert heading in text


def test_all_of_them_fit_a_terminal(summary: RunSummary) -> None:
    from rich.console import Console

    console = Console(width=100, record=True)
    with console.capture() as captured:
        console.print(run_table(summary))
    assert "…" not in captured.get()
    intervals = [
        baseline.skill for row in summary.variants for baseline in row.baselines if baseline.name != "constant"
    ]
    for skill in intervals:
        assert two_lines(skill, signed=True).rpartition("\n")[2] in captured.get()


def test_the_page_shows_the_nearest_one(summary: RunSummary, tmp_path: Path) -> None:
    write_run(tmp_path)
    page = write_report(tmp_path, summary=summary).read_text()
    assert "<dt>nearest</dt>" in page
    assert "n = 5</span>" in page
    assert "<strong>Nearest</strong>" in page
    assert "<strong>Nearest</strong>" not in write_report(tmp_path).read_text()


def scores_with(rate: float, n_features: int, rng: np.random.Generator) -> dict[FeatureId, Score]:
    """A judge that is right at a rate, on 20 + 20 windows of each feature."""
    found: dict[FeatureId, Score] = {}
    for index in range(n_features):
        feature = FeatureId("m", index)
        trials = tuple(
            Trial(t, t == (rng.random() < rate), None, "activating" if t else "random", None, i)
            for i, t in enumerate([True, False] * 20)
        )
        found[feature] = Score(feature, "detection", f"e/{feature}", "classification", trials)
    return found


def test_the_rate_of_false_discoveries_is_bounded() -> None:
    """100 features at chance and 50 that are found: of those that pass, few are at chance; and nearly all are found."""
    false, passed, true = 0, 0, 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        null, real = scores_with(0.5, 100, rng), scores_with(0.85, 50, rng)
        shifted = {FeatureId("r", f.index): replace(s, feature=FeatureId("r", f.index)) for f, s in real.items()}
        both = above_chance({**null, **shifted})
        assert (both.n_tested, both.n_undefined) == (150, 0)
        assert above_chance(null).n_passed <= 2
        passed += both.n_passed
        true += min(both.n_passed, 50)
        false += max(0, both.n_passed - 50)
    assert true / (20 * 50) > 0.95
    assert false / passed < 0.05


def test_nothing_to_test_is_no_test() -> None:
    score = scores_with(0.5, 1, np.random.default_rng(0))
    assert above_shuffled(score, {}) is None
    only_positive = {f: replace(s, trials=tuple(t for t in s.trials if t.target)) for f, s in score.items()}
    assert above_chance(only_positive).n_undefined == 1
