"""How a run ends whose explainer or judge gets nothing: exit status, table, `status`, log and page say the same."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import N_FEATURES, PrepareRun
from tests.e2e.stored import explanations_of, failures_of, trials_of
from tests.support.in_process import Said, call
from tests.support.llm_server import LlmServer, Received, Reply, answer, error
from tests.support.scripted_llm import MODEL, explain_and_judge, is_of_the_run

REFUSAL = "this server has no \x1b[31mgrammars\x1b[0m"
"""With codes that would colour a terminal."""


def section(server: LlmServer, more: str = "") -> str:
    return f"client: {{base_url: '{server.base_url}', model: {MODEL}{more}}}\nresponses: {{mode: 'off'}}\n"


def judging(reply: Reply) -> Callable[[Received], Reply]:
    """Explains as it should, and gives this reply to whatever has verdicts."""

    def script(received: Received) -> Reply:
        is_judge = is_of_the_run(received.raw_body) and b"verdicts" in received.raw_body
        return reply if is_judge else explain_and_judge(received)

    return script


def explaining(reply: Reply) -> Callable[[Received], Reply]:
    def script(received: Received) -> Reply:
        return reply if is_of_the_run(received.raw_body) else explain_and_judge(received)

    return script


def logged(run: Path) -> str:
    lines = (run / "log.jsonl").read_text().splitlines()
    return "\n".join(json.loads(line)["message"] for line in lines)


def n_of_the_run(server: LlmServer) -> int:
    return sum(is_of_the_run(request.raw_body) for request in server.requests)


def check_said(done: Said, run: Path, words: str) -> None:
    """The first message of the kind stands in all places, harmless."""
    shown = call("status", run)
    assert shown.status == 0
    page = (run / "report" / "report.html").read_text() if (run / "report").is_dir() else words
    for text in (done.out, shown.out, logged(run), page):
        assert words in text
    for text in (done.out, done.err, shown.out):
        assert "\x1b" not in text


def test_no_verdict_can_be_read(tmp_path: Path, prepare_run: PrepareRun) -> None:
    run = tmp_path / "run"
    with LlmServer(judging(answer("It is hard to tell."))) as server:
        command = prepare_run(tmp_path, section(server), "run")
        done = call(*command)
        n_asked = n_of_the_run(server)
        assert done.status == 3, done.err
        assert f"detection, judged by llm:{MODEL}, has no readable answer about what simple says" in done.error
        assert "fuzzing, judged by" in done.error
        assert "run the same command with --retry-failed" in done.error
        assert "unparsable: " in done.out
        assert len(explanations_of(run)) >= N_FEATURES
        message = next(trial.failure.message for trial in trials_of(run) if trial.failure)
        check_said(done, run, message[:40])
        again = call(*command)
        assert (again.status, again.error, n_of_the_run(server)) == (3, done.error, n_asked)
        as_json = call("score", run, "--json")
    assert as_json.status == 3
    assert any(json.loads(line).get("text", "").startswith("failed: ") for line in as_json.out.splitlines())


def test_no_explanation_at_all(tmp_path: Path, prepare_run: PrepareRun) -> None:
    run = tmp_path / "run"
    with LlmServer(explaining(error(400, REFUSAL))) as server:
        done = call(*prepare_run(tmp_path, section(server), "run"))
        assert done.status == 3, done.err
        assert f"explainer simple explained no feature ({N_FEATURES} × explain refused_request: " in done.error
        check_said(done, run, "grammars")
        done = call("explain", run, "--retry-failed")
        assert done.status == 3, done.err
        assert f"failed: {N_FEATURES} × explain refused_request: " in done.out
        assert "next: " not in done.out
    with LlmServer(explain_and_judge) as server:
        done = call(*prepare_run(tmp_path, section(server), "run"), "--retry-failed")
    assert done.status == 0, done.err
    assert failures_of(run) == {}


@pytest.mark.parametrize("limit", [None, 7])
def test_the_same_refusal_again_and_again_stops_the_run(
    limit: int | None, tmp_path: Path, prepare_run: PrepareRun
) -> None:
    run, more = tmp_path / "run", "" if limit is None else f", max_same_refusals: {limit}"
    with LlmServer(judging(error(400, REFUSAL))) as server:
        done = call(*prepare_run(tmp_path, section(server, f", max_concurrency: 4{more}"), "run"))
        assert done.status == 2, done.err
        assert f"{MODEL} refused {limit or 20} requests in a row in the same words" in done.error
        assert "grammars" in done.error
        assert "\x1b" not in done.err
        is_refused = [b"verdicts" in r.raw_body for r in server.requests if is_of_the_run(r.raw_body)]
        since_an_answer = is_refused[::-1].index(False)  # an explanation
        n_most = (limit or 20) + 2 * 4  # and those in flight, when the answer came and at the end
        assert since_an_answer <= 3 * n_most, "what is refused may be asked without schema and without system role"
        explained = explanations_of(run)
        assert explained, "what was done is kept"
    with LlmServer(explain_and_judge) as server:
        done = call(*prepare_run(tmp_path, section(server), "run"), "--retry-failed")
        assert done.status == 0, done.err
    assert explained.items() <= explanations_of(run).items()
    assert len([trial for trial in trials_of(run) if trial.failure is None]) > 100


def test_a_judge_to_be_calibrated_that_gives_no_verdict() -> None:
    with LlmServer(judging(answer("It is hard to tell."))) as server:
        done = call("calibrate", "--base-url", server.base_url, "--model", MODEL, "--n-examples", "2")
    assert done.status == 3, done.err
    assert "detection got no readable verdict (" in done.error
    assert "unparsable: " in done.out
    with LlmServer(judging(error(422, REFUSAL))) as server:
        done = call("calibrate", "--base-url", server.base_url, "--model", MODEL, "--n-examples", "2")
    assert done.status == 2, done.err
    assert "refused 20 requests in a row" in done.error
