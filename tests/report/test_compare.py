"""Two runs side by side, and the planner, as the command line prints them."""

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console, RenderableType
from scipy import stats

from sae_auto_interp.errors import CacheError, InputError, UnknownNameError
from sae_auto_interp.metrics import holm
from sae_auto_interp.report import Variant, compare_runs, comparison_table, power_tables
from sae_auto_interp.report.tables.compared_metrics import CLASSIFICATION_METRICS, IN_TEXT_METRICS
from sae_auto_interp.results import RESULTS_FILE, ResultStore
from sae_auto_interp.types import Explanation, Failure, FeatureId, Score, SimulationTrial, Trial
from tests.support.run_fixture import write_run

N_RESAMPLES = 300
BROKEN = Failure("score", "timeout", "late")


def trials(n_right: int, n_failed: int = 0) -> tuple[Trial, ...]:
    """20 trials, `n_right` of each class right, and failed ones."""
    judged = [Trial(t, t == (i < n_right), None, "activating", None, i) for t in (True, False) for i in range(10)]
    return (*judged, *[Trial(True, None, None, "activating", None, 0, BROKEN)] * n_failed)


def write(run_dir: Path, scores: dict[tuple[str, str, str], list[int]], n_failed: int = 0, first: int = 0) -> Path:
    """(explainer, scorer, judge) -> right answers in ten, feature by feature, from index `first` on."""
    with ResultStore.open(run_dir / RESULTS_FILE) as store:
        for (explainer, scorer, judge), values in scores.items():
            for index, n_right in enumerate(values, start=first):
                feature = FeatureId("m", index)
                name = f"{explainer}/{feature}"
                store.add_explanation(Explanation(feature, "text", explainer, "p"), name)
                score = Score(feature, scorer, name, "classification", trials(n_right, n_failed))
                store.add_score(score, judge)
    return run_dir


def render(what: RenderableType, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


A, B = [5, 6, 7, 8, 9, 6, 7], [7, 6, 9, 9, 10, 8, 7]


def test_equal_variants_are_paired_and_adjusted_together(tmp_path: Path) -> None:
    names = [("simple", "detection", "llm"), ("simple", "fuzzing", "llm"), ("shuffled:simple", "detection", "llm")]
    a = write(tmp_path / "a", {names[0]: A, names[1]: A, names[2]: A}, n_failed=1)
    b = write(tmp_path / "b", {names[0]: B, names[1]: A[:5], names[2]: B})
    found = compare_runs(a, b, n_resamples=N_RESAMPLES)
    assert [(row.first, row.second) for row in found.rows] == [(Variant(*n), Variant(*n)) for n in names[:2]]
    detection, fuzzing = found.rows
    differences = (np.array(B) - np.array(A)) / 10
    assert detection.comparison.difference.value == pytest.approx(differences.mean())
    nonzero = differences[np.abs(differences) > 1e-9]
    ranks = stats.rankdata(np.round(np.abs(nonzero), 3))
    assert detection.comparison.effect_size.value == pytest.approx(1.0)
    assert detection.comparison.significance.p_value == pytest.approx(2 / 2 ** len(ranks))
    assert (detection.comparison.difference.n, detection.comparison.difference.n_failed) == (7, 7)
    assert (fuzzing.comparison.difference.value, fuzzing.comparison.n_only_first) == (0.0, 2)
    raw = np.array([row.comparison.significance.p_value for row in found.rows])
    assert [row.adjusted_p for row in found.rows] == pytest.approx(holm(raw).tolist())
    text = render(comparison_table(found, "runs/a", "runs/b"))
    for wanted in ("+0.11", "0.062", "fuzzing: 2 features have a value in A only", "A: runs/a", "7 + 0"):
        assert wanted in text, wanted
    assert text == render(comparison_table(compare_runs(a, b, n_resamples=N_RESAMPLES), "runs/a", "runs/b"))


def test_runs_with_other_names_are_compared_by_their_primary_explainers(tmp_path: Path) -> None:
    a = write(tmp_path / "a", {("simple", "detection", "llm"): A, ("lexical", "detection", "lexical"): A})
    b = write(tmp_path / "b", {("contrastive", "detection", "llm"): B, ("lexical", "detection", "lexical"): B})
    rows = compare_runs(a, b, n_resamples=N_RESAMPLES).rows
    assert [(row.first.explainer, row.second.explainer) for row in rows] == [
        ("lexical", "lexical"),
        ("simple", "contrastive"),
    ]
    assert "B contrastive" in render(comparison_table(compare_runs(a, b, n_resamples=N_RESAMPLES), "a", "b"))


def test_other_metrics_and_simulations(tmp_path: Path) -> None:
    runs = [write(tmp_path / n, {("simple", "detection", "llm"): v}) for n, v in (("a", A), ("b", B))]
    (row,) = compare_runs(*runs, metric="mcc", n_resamples=N_RESAMPLES).rows
    assert row.comparison.difference.value == pytest.approx(2 * (np.mean(B) - np.mean(A)) / 10)
    for run_dir, slope in zip(runs, (0.0, 1.0), strict=True):
        with ResultStore.open(run_dir / RESULTS_FILE) as store:
            for index in range(4):
                feature = FeatureId("m", index)
                simulated = SimulationTrial((0.0, 1.0, 2.0), (0.0, 1.0 + index / 9, 2 * slope), "activating", 0, 0)
                score = Score(feature, "simulation", f"simple/{feature}", "simulation", (), simulations=(simulated,))
                store.add_score(score, "llm")
    (row,) = compare_runs(*runs, metric="ev_correlation", n_resamples=N_RESAMPLES).rows
    assert row.first.scorer == "simulation"
    assert row.comparison.difference.n == 4
    assert row.comparison.effect_size.value == 1.0


def test_runs_that_share_no_feature_are_no_comparison(tmp_path: Path) -> None:
    a = write(tmp_path / "a", {("simple", "detection", "llm"): A})
    b = write(tmp_path / "b", {("simple", "detection", "llm"): B}, first=100)
    with pytest.raises(InputError, match="share no feature") as caught:
        compare_runs(a, b)
    assert str(a) in str(caught.value)
    assert str(b) in str(caught.value)


@pytest.mark.parametrize("fact", ["model", "autoencoders"])
def test_runs_of_other_models_are_compared_only_when_asked(tmp_path: Path, fact: str) -> None:
    a, b = (write(tmp_path / n, {("simple", "detection", "llm"): v}) for n, v in (("a", A), ("b", B)))
    for run_dir, value in ((a, "one"), (b, "other")):
        assert compare_runs(a, b, n_resamples=N_RESAMPLES).rows, "what only one of them says is no difference"
        with ResultStore.open(run_dir / RESULTS_FILE) as store:
            store.set_info(fact, value)
    with pytest.raises(InputError, match=rf"differ in their {fact} \(one against other\).*--across-models"):
        compare_runs(a, b)
    assert len(compare_runs(a, b, n_resamples=N_RESAMPLES, across_models=True).rows) == 1


def test_every_metric_of_one_number_can_be_compared(tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "b")):
        write_run(tmp_path / name, seed=seed)
    for metric in (*CLASSIFICATION_METRICS, *IN_TEXT_METRICS):
        rows = compare_runs(tmp_path / "a", tmp_path / "b", metric, n_resamples=20).rows
        scorers = {row.first.scorer for row in rows}
        assert scorers == ({"detection"} if metric in IN_TEXT_METRICS else {"detection", "fuzzing"})
        if "auroc" not in metric and "average" not in metric and metric != "discrimination":  # confidences, neighbours
            assert rows[0].comparison.difference.value is not None, metric
    recall, tpr = (compare_runs(tmp_path / "a", tmp_path / "b", m, n_resamples=20).rows[0] for m in ("recall", "tpr"))
    assert recall.comparison.difference.value == tpr.comparison.difference.value


def test_runs_without_anything_in_common(tmp_path: Path) -> None:
    a = write(tmp_path / "a", {("simple", "detection", "llm"): A})
    b = write(tmp_path / "b", {("simple", "fuzzing", "llm"): B})
    with pytest.raises(InputError, match="simple/detection/llm against simple/fuzzing/llm"):
        compare_runs(a, b)
    with pytest.raises(UnknownNameError, match="did you mean 'mcc'"):
        compare_runs(a, b, metric="mc")
    with pytest.raises(CacheError, match="no results"):
        compare_runs(a, tmp_path / "nowhere")


def test_the_planner_prints_the_goldens() -> None:
    text = render(power_tables(), width=100)
    for wanted in ("3,115", "779", "234", "78", "±0.039", "±0.009"):
        assert wanted in text, wanted
    assert "0.03" in render(power_tables([0.03], [42], sd=0.2, power=0.9, alpha=0.01))
