"""Files for programs: every measured number stands there whole, and what is undefined says why."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.report import RunSummary, summarise, write_report
from sae_auto_interp.report.pages.exports import as_json
from tests.support.rich_run import write_rich_run

ESTIMATE = {"value", "low", "high", "level", "method", "n", "n_failed", "reason"}
NOT_MEASURED = {
    # chosen, not measured
    "level", "chance", "n_candidates", "fdr", "sort_value", "usd",
    # counted over the whole cache, or read off one token
    "max_activation", "mean_activation", "quantile_edges", "token_entropy_nats", "firing_fraction",
    "firing_fraction_after", "positional_information", "positional_q", "top", "bottom",
}  # fmt: skip
"""Numbers with a fraction that are no estimates, by the field that holds them."""


def walk(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, value) of every estimate and every other leaf."""
    if isinstance(value, dict) and value.keys() >= ESTIMATE:
        yield path, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from walk(each, (*path, key))
    elif isinstance(value, list):
        for each in value:
            yield from walk(each, path)
    else:
        yield path, value


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("run")
    write_rich_run(run_dir, n_features=5, hostile=True)
    write_report(run_dir, n_resamples=200)
    return run_dir


@pytest.fixture(scope="module")
def summary(run_dir: Path) -> RunSummary:
    return summarise(run_dir, n_resamples=200)


def documents(run_dir: Path) -> list[Any]:
    report = run_dir / "report"
    lines = (report / "features.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads((report / "report.json").read_text(encoding="utf-8")), *map(json.loads, lines)]


def test_every_number_has_its_n_its_failures_and_an_interval_or_the_reason(run_dir: Path) -> None:
    estimates = 0
    for document in documents(run_dir):
        for path, found in walk(document):
            if not isinstance(found, dict):
                is_fraction = isinstance(found, float)
                assert not is_fraction or path[-1] in NOT_MEASURED, f"{'.'.join(path)} = {found} is a bare number"
                continue
            estimates += 1
            assert isinstance(found["n"], int), path
            assert isinstance(found["n_failed"], int), path
            if found["value"] is None:
                assert found["reason"], path
                assert found["low"] is found["high"] is None, path
            elif found["low"] is None:
                assert found["reason"] or path[-1] == "balanced_accuracy", path  # the constant judge's is exact
            else:
                assert found["low"] <= found["value"] <= found["high"], path
    assert estimates > 500


def test_a_metric_without_its_class_is_undefined_with_the_reason(run_dir: Path) -> None:
    """Fuzzing by a judge without probabilities is not in this run; precision in text is not asked of fuzzing."""
    (first, *_) = documents(run_dir)[1:]
    fuzzing = next(score for score in first["scores"] if score["variant"]["scorer"] == "fuzzing")
    assert fuzzing["precision_in_text"] is None
    sensitivity = next(other for other in first["others"] if other["variant"]["scorer"] == "sensitivity")
    assert (sensitivity["metric"], sensitivity["chance"]) == ("found", None)


def test_files_hold_what_the_summary_holds(run_dir: Path, summary: RunSummary) -> None:
    run, *features = documents(run_dir)
    assert run["n_features"] == len(features) == 5
    assert [feature["feature"] for feature in features] == [str(f.feature) for f in summary.features]
    assert run["agreements"] == as_json(summary.agreements)
    value = summary.features[0].scores[0].balanced_accuracy.value
    assert features[0]["scores"][0]["balanced_accuracy"]["value"] == pytest.approx(value, rel=1e-5)


def test_the_table_has_one_number_a_line(run_dir: Path, summary: RunSummary) -> None:
    text = (run_dir / "report" / "scores.tsv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
    feature = summary.features[0]
    own = [row for row in rows if row["feature"] == str(feature.feature)]
    for score in feature.scores:
        (row,) = (
            row
            for row in own
            if (row["explainer"], row["test"], row["judge"], row["metric"], row["quantile"])
            == (score.variant.explainer, score.variant.scorer, score.variant.judge, "balanced_accuracy", "")
        )
        assert float(row["value"]) == pytest.approx(score.balanced_accuracy.value, rel=1e-5)
        assert (int(row["n"]), int(row["n_failed"])) == (score.balanced_accuracy.n, score.balanced_accuracy.n_failed)
        assert row["method"] == score.balanced_accuracy.method
    metrics = {row["metric"] for row in own}
    assert {"tpr", "correlation", "accuracy_if_all_wrong", "found", "auroc_shuffled"} <= metrics
    assert {row["quantile"] for row in own if row["metric"] == "accuracy"} == {"", *map(str, range(10))}
    assert all(row["value"] or row["reason"] for row in rows)


def test_half_characters_do_not_make_invalid_files(run_dir: Path) -> None:
    for name in ("report.json", "features.jsonl", "scores.tsv"):
        (run_dir / "report" / name).read_bytes().decode("utf-8")
