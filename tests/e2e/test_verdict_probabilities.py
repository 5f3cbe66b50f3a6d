"""Verdicts have probabilities where the endpoint gives log-probabilities, and none where it does not; a run that is
killed and continued, and one that asks nobody again, store the same bytes."""

import json
import math
import signal
import zlib
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.results import RESULTS_FILE, ResultStore
from tests.e2e.runs import sae_auto_interp, stopped_at, write_run_file
from tests.e2e.stored import scores_of, trials_of
from tests.support.llm_server import LlmServer, Received, Reply, answer
from tests.support.scripted_llm import explain_and_judge

MORE = "\nn_lexical: 0\nclient: {{base_url: {url}}}\nresponses: {{path: {responses}{mode}}}\n"


def with_logprobs(received: Received) -> Reply:
    """The same model on a server that lists alternatives: a token per character, and both digits where one stands."""
    reply = explain_and_judge(received)
    if received.method == "GET" or not received.body.get("logprobs"):
        return reply
    text = json.loads(reply.body)["choices"][0]["message"]["content"]
    sure = 0.5 + zlib.crc32(received.raw_body) % 1000 / 2002
    return answer(text, logprobs={"content": [_token(character, sure) for character in text]})


def _token(character: str, sure: float) -> dict[str, Any]:
    other = {"0": "1", "1": "0"}.get(character, "?")
    listed = {character: math.log(sure), other: math.log(1 - sure)}
    return {
        "token": character,
        "logprob": listed[character],
        "top_logprobs": [{"token": token, "logprob": value} for token, value in listed.items()],
    }


def run_file(folder: Path, url: str, responses: Path, mode: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    return write_run_file(folder, "simple", more=MORE.format(url=url, responses=responses, mode=mode))


def finish(folder: Path) -> dict[str, str]:
    """Run to the end; the facts about the run."""
    done = sae_auto_interp("run", folder / "run.yaml", "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    with ResultStore.open(folder / "run" / RESULTS_FILE, read_only=True) as store:
        return dict(store.info())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with LlmServer(with_logprobs) as server:
        run_file(folder, server.base_url, folder / "responses.sqlite")
        assert finish(folder)["verdict_probabilities"] == "from log-probabilities"
    return folder


def test_every_verdict_has_its_probability_and_agrees_with_it(whole: Path) -> None:
    trials = trials_of(whole / "run")
    assert len(trials) > 100
    assert all(trial.confidence is not None and trial.prediction == (trial.confidence > 0.5) for trial in trials)


def test_killed_and_continued_it_stores_the_same(whole: Path, tmp_path: Path) -> None:
    with LlmServer(with_logprobs) as server:
        file = run_file(tmp_path, server.base_url, tmp_path / "responses.sqlite")
        stopped_at("score:", signal.SIGKILL, "run", file, "--out", tmp_path / "run")
        finish(tmp_path)
    assert scores_of(tmp_path / "run") == scores_of(whole / "run")


def test_a_replay_finds_every_answer_without_knowing_what_the_endpoint_can_do(whole: Path, tmp_path: Path) -> None:
    named = run_file(tmp_path, "http://127.0.0.1:1/v1, model: my-model", whole / "responses.sqlite", ", mode: replay")
    assert named.is_file()
    finish(tmp_path)
    assert scores_of(tmp_path / "run") == scores_of(whole / "run")


def test_without_log_probabilities_the_verdicts_are_the_same_and_have_none(whole: Path, tmp_path: Path) -> None:
    with LlmServer(explain_and_judge) as server:
        run_file(tmp_path, server.base_url, tmp_path / "responses.sqlite")
        assert finish(tmp_path)["verdict_probabilities"].startswith("none: the endpoint gives no log-probabilities")
    found, known = scores_of(tmp_path / "run"), scores_of(whole / "run")
    assert found.keys() == known.keys()
    for key, score in found.items():
        assert [trial.confidence for trial in score.trials] == [None] * len(score.trials)
        assert [trial.prediction for trial in score.trials] == [trial.prediction for trial in known[key].trials]
