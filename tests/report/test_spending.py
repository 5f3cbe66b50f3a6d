"""What a run paid is summed by stage and model, and shown in its table and on its page."""

import io
from pathlib import Path

from rich.console import Console

from sae_auto_interp.report import run_table, summarise, write_report
from sae_auto_interp.report.summary.spending import SpendingRow, spending_rows
from sae_auto_interp.results import RESULTS_FILE, ResultStore
from sae_auto_interp.types.spending import Account, Spent
from tests.support.run_fixture import write_run

BIG, SMALL = "big-model", "<small> model"
SPENDING = {
    Account("explain", "h.1:3", BIG): Spent(1, 0, 0, 2000, 100, 0, 0.5),
    Account("explain", "h.1:4", BIG): Spent(2, 1, 1, 3000, 200, 900, 0.75),
    Account("score", "h.1:3", SMALL): Spent(40, 10, 0, 40_000, 400, 0, 0.0),
}


def test_sums_over_features_by_stage_and_model() -> None:
    assert spending_rows(SPENDING) == (
        SpendingRow("explain", BIG, Spent(3, 1, 1, 5000, 300, 900, 1.25)),
        SpendingRow("score", SMALL, Spent(40, 10, 0, 40_000, 400, 0, 0.0)),
        SpendingRow("all", "all", Spent(43, 11, 1, 45_000, 700, 900, 1.25)),
    )
    assert spending_rows({}) == ()


def test_the_table_and_the_page_show_it(tmp_path: Path) -> None:
    write_run(tmp_path, n_features=3)
    with ResultStore.open(tmp_path / RESULTS_FILE) as store:
        store.add_spending(SPENDING)
    console = Console(file=io.StringIO(), width=160, color_system=None)
    console.print(run_table(summarise(tmp_path, n_resamples=50)))
    assert isinstance(console.file, io.StringIO)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["explain", BIG, "3", "1", "1", "5,000", "300", "$1.2500"] in lines
    assert ["score", "<small>", "model", "40", "10", "0", "40,000", "400", "–"] in lines
    page = write_report(tmp_path, n_resamples=50).read_text(encoding="utf-8")
    assert "<td>&lt;small&gt; model</td>" in page
    assert "$1.2500" in page


def test_a_run_that_asked_no_model_says_nothing_of_it(tmp_path: Path) -> None:
    ResultStore.open(tmp_path / RESULTS_FILE).close()
    assert "What this run paid for" not in write_report(tmp_path, n_resamples=50).read_text(encoding="utf-8")


def test_sums_grow_in_the_store_and_survive(tmp_path: Path) -> None:
    path = tmp_path / RESULTS_FILE
    for _ in range(2):
        with ResultStore.open(path) as store:
            store.add_spending(SPENDING)
    with ResultStore.open(path, read_only=True) as store:
        assert store.spending() == {account: spent + spent for account, spent in SPENDING.items()}
