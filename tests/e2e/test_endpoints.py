"""Runs at endpoints that refuse, fail and mislead: they end as they should, exit status included, and say why."""

import contextlib
import io
import itertools
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.cli import main
from sae_auto_interp.clients import RetryingClient
from sae_auto_interp.results import RESULTS_FILE, ResultStore
from tests.e2e.stored import failures_of, scores_of
from tests.support.llm_server import LlmServer, Received, Reply, error, json_reply
from tests.support.picky_llm import Script, has_lengths, has_schema, has_system, refusing, willing

RUN_FILE = """
model: embedded:language_model
device: cpu
autoencoders: ["embedded:sparse_coders/openai"]
data: {n_tokens: 6000, ctx_len: 64, max_chars_per_document: 3000}
preflight: {enabled: false}
n_lexical: 0
n_nearest: 0
n_hidden: 0
features: {n_features: 2, min_examples: 10, n_train: 6, n_test: 2, n_quantiles: 2, n_non_activating_train: 4,
           n_non_activating_test: 2}
explainers: [simple]
scorers: [{name: detection, n_shown: 2}]
responses: {mode: "off"}
"""
Refused = Callable[[Mapping[str, Any]], bool]


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cached")
    (folder / "run.yaml").write_text(RUN_FILE + "client: {base_url: 'http://127.0.0.1:1/v1', model: none}\n")
    status, said = call("cache", folder / "run.yaml", "--out", folder / "run")
    assert status == 0, said
    return folder / "run"


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryingClient, "_wait_seconds", lambda self, attempt, error: 0.0)
    monkeypatch.setenv("COLUMNS", "200")


def call(*arguments: str | Path) -> tuple[int, str]:
    """The command in this process: its exit status, and what it wrote to standard error."""
    before, sys.argv = sys.argv, ["sae-auto-interp", *map(str, arguments)]
    said = io.StringIO()
    try:
        with (
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(io.StringIO()),
            pytest.raises(SystemExit) as end,
        ):
            main()
    finally:
        sys.argv = before
    return int(end.value.code or 0), said.getvalue()


def run(cached: Path, folder: Path, script: Script, more: str = "model: my-model") -> tuple[int, str, list[Received]]:
    """The exit status, what was said, and what was asked."""
    if not (folder / "run").exists():
        shutil.copytree(cached, folder / "run")
    with LlmServer(script) as server:
        (folder / "run.yaml").write_text(f"{RUN_FILE}\nclient: {{base_url: '{server.base_url}', {more}}}\n")
        status, said = call("run", folder / "run.yaml", "--out", folder / "run")
        return status, said, server.requests


def check_whole(folder: Path) -> None:
    """Everything is explained and scored, without a failure."""
    assert failures_of(folder / "run") == {}
    scores = scores_of(folder / "run")
    assert len(scores) >= 2 * 2
    trials = [trial for score in scores.values() for trial in score.trials]
    assert len(trials) >= 16
    assert all(trial.failure is None and trial.prediction is not None for trial in trials)


@pytest.mark.parametrize(
    ("is_refused", "status", "words"),
    [
        (has_lengths, 400, "'minItems' values other than 0 or 1 are not supported"),
        (has_system, 500, "Conversation roles must alternate user/assistant/user/assistant/..."),
        (lambda body: has_lengths(body) or has_system(body), 422, "Unprocessable"),
        (lambda body: "temperature" in body, 400, "invalid temperature: only 1 is allowed for this model"),
    ],
)
def test_what_is_refused_costs_no_verdict(
    cached: Path, tmp_path: Path, is_refused: Refused, status: int, words: str
) -> None:
    ended, said, requests = run(cached, tmp_path, refusing(is_refused, status, words))
    assert ended == 0, said
    check_whole(tmp_path)
    assert not is_refused(requests[-1].body)


def test_what_is_refused_only_once_the_run_has_begun_costs_none_either(cached: Path, tmp_path: Path) -> None:
    def is_refused(body: Mapping[str, Any]) -> bool:
        return has_schema(body) and "Description: " in json.dumps(body)

    ended, said, requests = run(cached, tmp_path, refusing(is_refused, 400, "no"))
    assert ended == 0, said
    check_whole(tmp_path)
    n_refused = sum("messages" in r.body and is_refused(r.body) for r in requests if r.method == "POST")
    assert 0 < n_refused <= 60
    (file,) = (tmp_path / "run" / "clients").glob("capabilities-*.json")
    assert "schema of " in json.loads(file.read_text())["capabilities"]["refused"][0]
    assert not is_refused(requests[-1].body)


@pytest.mark.parametrize(
    "fault",
    [
        {"choices": [{"finish_reason": "error", "error": {"code": 503}, "message": {"content": ""}}]},
        {"choices": [{"finish_reason": "stop", "message": {"content": ""}}], "usage": {"completion_tokens": 0}},
    ],
)
def test_an_error_inside_a_200_is_asked_again(cached: Path, tmp_path: Path, fault: object) -> None:
    n_asked = Counter[bytes]()

    def failing(received: Received) -> Reply:
        n_asked[received.raw_body] += 1
        return json_reply(fault) if received.method == "POST" and n_asked[received.raw_body] == 1 else willing(received)

    ended, said, _ = run(cached, tmp_path, failing)
    assert ended == 0, said
    check_whole(tmp_path)


def test_another_model_is_said_once_and_stored(cached: Path, tmp_path: Path) -> None:
    def other(received: Received) -> Reply:
        reply = willing(received)
        return replace(reply, body=reply.body.replace(b'"model": "scripted"', b'"model": "tiny-1b"'))

    def listing_none(received: Received) -> Reply:
        return error(404) if received.method == "GET" else other(received)

    ended, said, _ = run(cached, tmp_path, listing_none, "model: big-70b")
    assert ended == 0, said
    assert said.count("tiny-1b answered") == 1
    with ResultStore.open(tmp_path / "run" / RESULTS_FILE, read_only=True) as store:
        assert store.info()["models_that_answered"] == "tiny-1b in place of big-70b"


def test_the_same_model_in_other_writing_is_none(cached: Path, tmp_path: Path) -> None:
    def dated(received: Received) -> Reply:
        reply = willing(received)
        return replace(reply, body=reply.body.replace(b'"model": "scripted"', b'"model": "org/My-Model-2025-01-01"'))

    _, said, _ = run(cached, tmp_path, dated)
    assert "answered" not in said
    with ResultStore.open(tmp_path / "run" / RESULTS_FILE, read_only=True) as store:
        assert "models_that_answered" not in store.info()


PAGE = Reply(200, b"<html><title>Welcome</title></html>", {"Content-Type": "text/html"})


def test_a_page_is_no_endpoint(cached: Path, tmp_path: Path) -> None:
    ended, said, _ = run(cached, tmp_path, lambda received: PAGE, "attempts: 2")
    assert ended == 2
    assert said.count("error: ") == 1
    assert "/v1/models is no list of models but: <html>" in said
    assert "is base_url right?" in said
    ended, said, requests = run(cached, tmp_path, lambda received: PAGE, "model: my-model, attempts: 2")
    assert ended == 2
    assert "/v1/chat/completions is not JSON: <html>" in said
    assert "asked to find out what the endpoint can do; is base_url" in said
    assert sum(received.method == "POST" for received in requests) == 2, "as often as the run would"


def test_faults_while_probing_are_outlived_as_in_the_run(cached: Path, tmp_path: Path) -> None:
    faults = itertools.cycle([error(503), error(429), Reply(200, b'{"choices": [{"mess'), PAGE])
    n_asked = Counter[bytes]()

    def now_and_then(received: Received) -> Reply:
        n_asked[received.raw_body] += 1
        is_plain = b"system" not in received.raw_body
        return next(faults) if is_plain and n_asked[received.raw_body] <= 4 else willing(received)

    ended, said, _ = run(cached, tmp_path, now_and_then)
    assert ended == 0, said
    check_whole(tmp_path)
