"""The terminal table: what it says, that it says it twice the same, and that no text of the run can steer it."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from sae_auto_interp.report import run_table, summarise
from sae_auto_interp.results import RESULTS_FILE, ResultStore
from tests.support.rich_run import write_rich_run
from tests.support.run_fixture import write_run


def render(run_dir: Path, max_features: int | None = None) -> str:
    console = Console(file=io.StringIO(), width=160, force_terminal=True, color_system=None)
    console.print(run_table(summarise(run_dir, n_resamples=200), max_features))
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def test_table_says_everything_a_reader_needs(tmp_path: Path) -> None:
    write_run(tmp_path)
    text = render(tmp_path)
    lines = text.splitlines()
    assert "95 % interval; explained by simple, judged by demo-model-8b" in lines[0]
    (months,) = (i for i, line in enumerate(lines) if "Names of months" in line)
    assert "transformer.h.1.mlp" in lines[months]
    assert ":100" in lines[months + 1]
    assert lines[months + 1].count("[") == 2
    assert "2 failed" in lines[months + 1]
    (failed,) = (line for line in lines if "failed: unparsable" in line)
    assert failed.count("–") == 2
    simple, _ = (i for i, line in enumerate(lines) if line.split()[:2] == ["simple", "detection"])
    assert lines[simple + 1].count("[") == 3
    assert "demo-model-8b" in lines[simple + 1]
    assert "+0." in lines[simple]
    assert " of 660" in lines[simple]
    assert "Explanations that failed, simple: 1 timeout, 1 unparsable" in text
    assert text == render(tmp_path)


def test_long_runs_are_cut_and_say_so(tmp_path: Path) -> None:
    write_run(tmp_path, n_features=6)
    text = render(tmp_path, max_features=2)
    assert "... and 4 more; the report has all 6." in text


def test_untrusted_text_is_text(tmp_path: Path) -> None:
    write_run(tmp_path, hostile=True)
    text = render(tmp_path)
    assert "\x1b[31m" not in text
    assert "[bold" in text
    assert "<script>" in text


@pytest.mark.parametrize("width", [40, 80])
def test_an_empty_run_and_narrow_terminals(tmp_path: Path, width: int) -> None:
    ResultStore.open(tmp_path / RESULTS_FILE).close()
    assert "Nothing has been explained yet" in render(tmp_path)
    write_run(tmp_path / "full", n_features=4)
    console = Console(file=io.StringIO(), width=width)
    console.print(run_table(summarise(tmp_path / "full", n_resamples=50)))
    output = console.file
    assert isinstance(output, io.StringIO)
    assert max(len(line) for line in output.getvalue().splitlines()) <= width


def test_nothing_is_cut_off_at_100_columns(tmp_path: Path) -> None:
    """Every column is there, and every interval has its end."""
    write_rich_run(tmp_path, n_features=5)
    console = Console(file=io.StringIO(), width=100)
    console.print(run_table(summarise(tmp_path, n_resamples=50)))
    output = console.file
    assert isinstance(output, io.StringIO)
    text = output.getvalue()
    assert max(len(line) for line in text.splitlines()) <= 100
    assert text.count("[") == text.count("]")
    assert text.count("Failed trials") == 2
    for words in ("llm:other-model-70b", "Optimism", "judges", "explainers", "chance 0.20", "shuffled 5 of 5"):
        assert words in text, words
    assert "Features skipped: 2 because rare, 1 because dead, 1 because too few examples" in text
    assert "Too few neighbour examples, non-activating for scoring: 2 features had 7 of 50, 1 of them none" in text
