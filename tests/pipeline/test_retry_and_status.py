"""What failed can be opened again, and a run can be looked at from outside, running or not."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.errors import RunDirectoryError
from sae_auto_interp.pipeline.clients.request_counts import RequestCounts
from sae_auto_interp.pipeline.progress.displays import LineProgress, requests_as_json
from sae_auto_interp.pipeline.progress.log_file import logged_to
from sae_auto_interp.pipeline.progress.state import request_counts_in_short
from sae_auto_interp.pipeline.progress.status import kept_status, read_status, status_lines
from sae_auto_interp.pipeline.run import reopen_failed
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types import Request
from sae_auto_interp.types.spending import Account, Spent
from tests.pipeline.small_runs import answers, configuration, contents, loader_of, run, write_small_cache
from tests.support.explaining import is_to_explain


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return write_small_cache(tmp_path_factory.mktemp("run"))


def always_readable(request: Request) -> str:
    """As if the model had been mended."""
    text = answers(request)
    if is_to_explain(request):
        return text if text.startswith("[") else "[EXPLANATION]: words of some kind"
    return text if text.startswith("[") else str([0] * request.messages[-1].content.count("\n\nExcerpt "))


def test_failed_units_are_done_again_and_nothing_else(directory: RunDirectory, tmp_path: Path) -> None:
    config, results = configuration(), tmp_path / "results.sqlite"
    first, _ = run(config, loader_of(directory, config), results)
    before = contents(results)
    with ResultStore.open(results) as store:
        n_open = reopen_failed(store)
    assert n_open > 1
    again, _ = run(config, loader_of(directory, config), results, always_readable)
    assert 0 < len(again.requests) < len(first.requests)
    after = contents(results)
    stages = {json.loads(content)["stage"] for _, content in after["failures"]}
    assert stages == {"records"}
    assert len(after["explanations"]) > len(before["explanations"])
    run(config, loader_of(directory, config), tmp_path / "clean.sqlite", always_readable)
    assert contents(tmp_path / "clean.sqlite") == after
    with ResultStore.open(results) as store:
        assert reopen_failed(store) == 0


def test_the_status_of_a_run(directory: RunDirectory) -> None:
    config = configuration()
    directory.manifest.write_text("{}")
    assert status_lines(read_status(directory.root)) == ["not running", "nothing is stored yet"]
    run(config, loader_of(directory, config), directory.results)
    status = read_status(directory.root)
    assert not status.is_running
    assert status.counts["records"] == 10
    assert {each.stage for each in status.failures} == {"records", "explain", "score"}
    lines = status_lines(status)
    assert lines[:2] == ["not running", lines[1]]
    (unreadable,) = (each for each in status.failures if each.stage == "explain")
    assert f"failed: {unreadable.n} × explain refusal: {unreadable.message}" in lines
    assert status.as_json()["failures"][0].keys() == {"stage", "kind", "n", "message"}
    with ResultStore.open(directory.results):
        assert read_status(directory.root).is_running
        with pytest.raises(RunDirectoryError, match="being written by another process"):
            ResultStore.open(directory.results)


def test_progress_is_kept_for_others_to_see(tmp_path: Path) -> None:
    async def work() -> dict[str, Any]:
        with (tmp_path / "said").open("w") as stream, LineProgress(stream) as progress:  # pyright: ignore[reportArgumentType]
            progress.start("explain", 4, 1, "explanations")
            async with kept_status(tmp_path / "progress.json", progress):
                progress.advance_stage("explain", ["timeout"])
                await asyncio.sleep(0.01)
            return json.loads((tmp_path / "progress.json").read_text())

    (stage,) = asyncio.run(work())["stages"]
    assert (stage["stage"], stage["done"], stage["total"], stage["failures"]) == ("explain", 2, 4, {"timeout": 1})


def test_what_was_paid_for_is_shown_while_the_run_is_on_and_after(tmp_path: Path) -> None:
    directory = write_small_cache(tmp_path)
    directory.manifest.write_text("{}")
    with ResultStore.open(directory.results) as store:
        for feature in ("h.0:1", "h.0:2"):
            spent = Spent(n_paid=3, n_cached=1, prompt_tokens=500, completion_tokens=20, usd=0.25)
            store.add_spending({Account("score", feature, "m"): spent})
    status = read_status(directory.root)
    assert "paid for: 6 answers (1,000 + 40 tokens, $0.5000); cached 2, lost 0" in status_lines(status)
    assert status.as_json()["spent"]["usd"] == 0.5
    request_counts = RequestCounts(n_answered=8, spent=lambda: status.spent)
    assert request_counts_in_short(request_counts).endswith(", $0.50 spent")
    assert requests_as_json(request_counts)["spent"] == {"paid": 6, "cached": 2, "lost": 0, "uncounted": 0, "usd": 0.5}


def test_what_is_no_run_directory_has_no_status(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="is not a run directory"):
        read_status(tmp_path)


def test_the_log_is_json_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A test process cannot hand on half a character, which what is captured of the log would hold.
    monkeypatch.setattr(logging.getLogger("sae_auto_interp"), "propagate", False)
    log = logging.getLogger("sae_auto_interp.clients.wrappers.retry")
    with logged_to(tmp_path / "later" / "log.jsonl"):
        log.info("before there is a folder")
        (tmp_path / "later").mkdir()
        log.info("attempt %d failed \ud800", 2)
        try:
            raise ValueError("inside")
        except ValueError:
            log.exception("broken")
    log.info("afterwards")
    lines = [json.loads(line) for line in (tmp_path / "later" / "log.jsonl").read_text().splitlines()]
    assert [line["message"] for line in lines] == ["attempt 2 failed \ufffd", "broken"]
    assert lines[0]["level"] == "info"
    assert "ValueError: inside" in lines[1]["exception"]
