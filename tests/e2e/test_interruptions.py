"""Interrupted at any stage and run again, a run finishes without repeating finished work, with the same results."""

import signal
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import IS_SOAK
from tests.e2e.runs import environment, sae_auto_interp, stopped_at, write_run_file
from tests.support.llm_server import LlmServer, Received, Reply
from tests.support.scripted_llm import explain_and_judge, is_of_the_run
from tests.support.warm import WarmCall


def stored(run_dir: Path) -> dict[str, Any]:
    """Everything in the results that a report can show, and the cache's bytes."""
    with closing(sqlite3.connect(run_dir / "results.sqlite")) as connection:
        tables = {
            name: sorted(connection.execute(f"SELECT * FROM {name}"))
            for name in ("records", "explanations", "scores", "failures", "finished")
        }
    shards = sorted((run_dir / "features").rglob("*.safetensors"))
    return tables | {"cache": [(path.name, path.read_bytes()) for path in shards]}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    done = sae_auto_interp("run", write_run_file(folder), "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    return stored(folder / "run"), table_of(done.stdout)


def table_of(output: str) -> str:
    return output[: output.index("report: ")]


@pytest.mark.parametrize(
    ("marker", "how"),
    [
        ("cache:", signal.SIGKILL),
        ("score:", signal.SIGKILL),
        ("cache:", signal.SIGINT),
        ("score:", signal.SIGTERM),
        *(("loading", signal.SIGKILL), ("records:", signal.SIGKILL), ("explain:", signal.SIGKILL)) * IS_SOAK,
    ],
)
def test_the_same_command_goes_on(
    marker: str,
    how: signal.Signals,
    uninterrupted: tuple[dict[str, Any], str],
    tmp_path: Path,
) -> None:
    arguments = ("run", write_run_file(tmp_path), "--out", tmp_path / "run")
    status, said = stopped_at(marker, how, *arguments)
    assert "Traceback" not in said, said
    if how is not signal.SIGKILL and status != 0:  # a stage may be over before the signal comes
        assert status == 128 + how, said
        assert "run the same command again" in said
    again = sae_auto_interp(*arguments)
    assert again.returncode == 0, again.stderr
    assert stored(tmp_path / "run") == uninterrupted[0]
    assert table_of(again.stdout) == uninterrupted[1]


def test_a_finished_run_does_nothing_again(tmp_path: Path) -> None:
    arguments = ("run", write_run_file(tmp_path), "--out", tmp_path / "run")
    sae_auto_interp(*arguments)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "features").rglob("*.safetensors")}
    again = sae_auto_interp(*arguments)
    assert again.returncode == 0
    assert "loading" not in again.stderr
    assert times == {path: path.stat().st_mtime_ns for path in times}
    assert again.stderr.splitlines() == [
        "records: 4 features, 4 already done",
        "explain: 4 explanations, 4 already done",
        "score: 16 scores, 16 already done",
    ]


class Killing:
    """Answers, and kills the process that asks with its third request for verdicts."""

    def __init__(self) -> None:
        self.call: WarmCall | None = None
        self.n_judged = 0

    def __call__(self, received: Received) -> Reply:
        self.n_judged += is_of_the_run(received.raw_body) and b"verdicts" in received.raw_body
        if self.call is not None and self.n_judged == 3:
            self.call.send_signal(signal.SIGKILL)
        return explain_and_judge(received)


def test_no_answer_is_paid_for_twice_after_a_kill(tmp_path: Path) -> None:
    """Requests of finished units are not repeated; only those in flight when the process died may be."""
    killing = Killing()
    with LlmServer(killing) as server:
        client = f"client: {{base_url: '{server.base_url}', max_concurrency: 2}}\n"
        arguments = ("run", write_run_file(tmp_path, "simple, lexical", more=client), "--out", tmp_path / "run")
        with WarmCall(arguments, environment()) as killing.call:
            killing.call.communicate(timeout=120)
        assert killing.call.wait() == -signal.SIGKILL
        with closing(sqlite3.connect(tmp_path / "run" / "results.sqlite")) as connection:
            finished = connection.execute("SELECT count(*) FROM finished WHERE stage = 'explain'").fetchone()[0]
        again = sae_auto_interp(*arguments)
        assert again.returncode == 0, again.stderr
        asked = Counter(r.raw_body for r in server.requests if r.method == "POST" and is_of_the_run(r.raw_body))
    assert finished > 0
    explained = [n for body, n in asked.items() if b"[EXPLANATION]" in body]
    assert len(explained) == 4
    assert sum(explained) - 4 <= min(2, 4 - finished)  # what was stored is not asked again, two may be in flight
    in_flight = 2 * 4  # two workers, each with all batches (10 + 10 windows, five a prompt) of one score
    assert sum(asked.values()) - len(asked) <= in_flight
