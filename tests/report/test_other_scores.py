"""Rankings, forced choices and simulations stand in tables of their own, each with its chance level."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from sae_auto_interp.report import compare_runs, run_table, summarise, write_report
from sae_auto_interp.results import RESULTS_FILE, ResultStore
from sae_auto_interp.types import ChoiceTrial, Explanation, Failure, FeatureId, Score, SimulationTrial, Trial, Usage

FEATURES = [FeatureId("transformer.h.1", i) for i in range(8)]
BROKEN = Failure("score", "unparsable", "no number", "hm")


def choices(feature: FeatureId, explanation_id: str, n_right: int) -> Score:
    trials = [ChoiceTrial(0, 0 if i < n_right else 1, 5, "random", 0, i) for i in range(10)]
    broken = ChoiceTrial(0, None, 5, "random", 0, 99, BROKEN)
    return Score(feature, "intruder_explained", explanation_id, "choice", (), Usage(5, 1, 1), choices=(*trials, broken))


def ranking(feature: FeatureId, explanation_id: str, shift: float) -> Score:
    rng = np.random.default_rng(feature.index)
    trials = tuple(
        Trial(i < 20, None, float(rng.normal(shift if i < 20 else 0)), "activating" if i < 20 else "random", None, i)
        for i in range(40)
    )
    return Score(feature, "embedding", explanation_id, "ranking", trials)


def simulation(feature: FeatureId, explanation_id: str) -> Score:
    windows = tuple(SimulationTrial((0.0, 4.0, 0.0), (0.0, 9.0, 1.0), "activating", 0, i) for i in range(5))
    return Score(feature, "simulation", explanation_id, "simulation", (), simulations=windows)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    with ResultStore.open(tmp_path / RESULTS_FILE) as store:
        for feature in FEATURES:
            own = Explanation(feature, "cats", "simple", "p-1")
            for explanation in (own, replace(own, explainer="shuffled:simple")):
                named = f"{explanation.explainer}/{feature}"
                is_control = explanation is not own
                store.add_explanation(explanation, named)
                store.add_score(choices(feature, named, 2 if is_control else 9), "llm:m")
                store.add_score(ranking(feature, named, 0.0 if is_control else 3.0), "openai:small")
            store.add_score(simulation(feature, f"simple/{feature}"), "llm:m")
    return tmp_path


def test_each_kind_has_its_metric_its_control_and_its_chance(run_dir: Path) -> None:
    summary = summarise(run_dir, n_resamples=300)
    rows = {row.metric: row for row in summary.others}
    assert {row.variant.scorer for row in rows.values()} == {"embedding", "intruder_explained", "simulation"}
    chosen = rows["accuracy"]
    assert (chosen.own.estimate.value, chosen.chance) == (0.9, pytest.approx(0.2))
    assert chosen.shuffled is not None
    assert chosen.difference is not None
    assert chosen.shuffled.estimate.value == pytest.approx(0.2)
    assert chosen.difference.value == pytest.approx(0.7)
    assert (chosen.n_trials, chosen.failed_trials) == (88, (("unparsable", 8),))
    ranked = rows["AUROC"]
    assert ranked.chance == 0.5
    assert ranked.own.estimate.value is not None
    assert ranked.own.estimate.value > 0.9
    simulated = rows["correlation"]
    assert (simulated.shuffled, simulated.difference, simulated.chance) == (None, None, 0.0)
    assert summary.variants == ()


def test_failures_and_costs_of_all_kinds_are_counted(run_dir: Path) -> None:
    summary = summarise(run_dir, n_resamples=300)
    assert [(group.kind, group.count) for group in summary.failures] == [("unparsable", 16)]
    assert summary.usage == Usage(80, 16, 16)


def test_the_terminal_and_the_page_show_them(run_dir: Path) -> None:
    console = Console(file=io.StringIO(), width=160)
    console.print(run_table(summarise(run_dir, n_resamples=300)))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "Other scores, mean over features" in text
    lines = text.splitlines()
    (at,) = (i for i, line in enumerate(lines) if "intruder_explained" in line)
    assert lines[at].split() == ["simple", "intruder_explained", "0.90", "0.20", "+0.70", "8", "8", "of", "88"]
    below = lines[at + 1]
    assert below.split()[:4] == ["llm:m", "accuracy,", "chance", "0.20"]
    assert below.split()[-3:] == ["0.82", "to", "0.91"], "had all failed choices been wrong, and right"
    page = write_report(run_dir, n_resamples=300).read_text(encoding="utf-8")
    table = page[page.index('id="other-scores"') :]
    for words in ("intruder_explained", "AUROC", "correlation", "openai:small"):
        assert words in table[: table.index("</table>")]


@pytest.mark.parametrize(
    ("metric", "scorer"),
    [("choice_accuracy", "intruder_explained"), ("choice_skill", "intruder_explained"), ("auroc", "embedding")],
)
def test_two_runs_are_compared_by_them(run_dir: Path, metric: str, scorer: str) -> None:
    (row,) = compare_runs(run_dir, run_dir, metric, n_resamples=20).rows
    assert row.first.scorer == scorer
    assert (row.comparison.difference.value, row.comparison.difference.n) == (0.0, 8)
