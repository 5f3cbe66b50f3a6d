"""A results file that commit 76b724d wrote, before the modules moved: every scorer, four features, two explainers.

It is read as what is written today, and the report says the same of it. Where a report is meant to say more, its
`report.json.gz` is written anew; the results file stays what it is.
"""

import gzip
import json
from pathlib import Path

import pytest

from sae_auto_interp.registry import component_names
from sae_auto_interp.report import summarise, write_report
from sae_auto_interp.results import RESULTS_FILE, ResultStore

WRITTEN = Path(__file__).parent / "written_by_76b724d"


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    (tmp_path / RESULTS_FILE).write_bytes(gzip.decompress((WRITTEN / f"{RESULTS_FILE}.gz").read_bytes()))
    return tmp_path


def test_every_row_is_read(run_directory: Path) -> None:
    with ResultStore.open(run_directory / RESULTS_FILE, read_only=True, verify=True) as store:
        records, scores = list(store.records()), [score for _, score in store.scores()]
        explainers = {explanation.explainer for _, explanation in store.explanations()}
    assert (len(records), len(scores)) == (4, 278)
    assert {score.scorer for score in scores} == set(component_names("scorers"))
    assert {"simple", "best_of_n", "lexical"} <= explainers
    assert all(record.train and record.test and record.non_activating.test for record in records)


def test_the_report_says_the_same_of_it(run_directory: Path) -> None:
    page = write_report(run_directory, summary=summarise(run_directory))
    said = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))
    assert said == json.loads(gzip.decompress((WRITTEN / "report.json.gz").read_bytes()))
