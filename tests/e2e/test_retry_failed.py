"""`--retry-failed` over a real socket: unreadable answers are asked for anew, and nothing else is paid for again."""

import json
import shutil
import signal
import time
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import PrepareRun
from tests.e2e.runs import sae_auto_interp, stopped_at
from tests.e2e.stored import explanations_of, failures_of, scores_of, spent_by, trials_of
from tests.support.llm_server import LlmServer, Received, Reply, answer
from tests.support.scripted_llm import MODEL, explain_and_judge, is_of_the_run

RAMBLING = "I would rather talk about something else."


class Rambler:
    """Some questions it answers with nonsense, however often they are put; put with another seed it does better."""

    def __init__(self) -> None:
        self.asked = Counter[bytes]()
        self.n_rambled = 0
        self.latency_seconds = 0.0

    def __call__(self, received: Received) -> Reply:
        if received.method == "GET" or not is_of_the_run(received.raw_body):
            return explain_and_judge(received)
        self.asked[received.raw_body] += 1
        time.sleep(self.latency_seconds)
        plain = {name: value for name, value in received.body.items() if name != "seed"}
        as_asked_first = received if "seed" not in received.body else _with_body(received, plain)
        one_in = 4 if b"verdicts" in received.raw_body else 2  # explanations are few
        if plain == received.body and zlib.crc32(json.dumps(plain["messages"]).encode()) % one_in == 0:
            self.n_rambled += 1
            return answer(RAMBLING)
        return explain_and_judge(as_asked_first)


def section(server: LlmServer) -> str:
    return f"client: {{base_url: '{server.base_url}', model: {MODEL}}}\n"


def _with_body(received: Received, body: object) -> Received:
    return Received(received.method, received.path, received.headers, json.dumps(body).encode())


def cache_in(folder: Path) -> dict[str, str]:
    return {"SAE_AUTO_INTERP_CACHE": str(folder / "cache")}


@dataclass(frozen=True)
class Rambled:
    """A run in which some answers could not be read, with the cache of its answers, and what was asked."""

    folder: Path
    asked: frozenset[bytes]

    def copied_to(self, folder: Path) -> Path:
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return folder


@pytest.fixture(scope="module")
def rambled(tmp_path_factory: pytest.TempPathFactory, prepare_run: PrepareRun) -> Rambled:
    folder, llm = tmp_path_factory.mktemp("rambled"), Rambler()
    with LlmServer(llm) as server:
        done = sae_auto_interp(*prepare_run(folder, section(server), "run"), more_environment=cache_in(folder))
    assert done.returncode == 0, done.stderr
    assert llm.n_rambled > 10
    assert "unparsable" in {trial.failure.kind for trial in trials_of(folder / "run") if trial.failure}
    assert set(failures_of(folder / "run").values()) == {"unparsable"}, "an explanation too"
    return Rambled(folder, frozenset(llm.asked))


def test_only_what_could_not_be_read_is_asked_anew(rambled: Rambled, tmp_path: Path, prepare_run: PrepareRun) -> None:
    folder, llm = rambled.copied_to(tmp_path), Rambler()
    before, scored = spent_by(folder / "run", "explain", "score"), set(scores_of(folder / "run"))
    with LlmServer(llm) as server:
        command = prepare_run(folder, section(server), "run")
        done = sae_auto_interp(*command, more_environment=cache_in(folder))
        assert (done.returncode, llm.asked) == (0, {}), "without the flag what failed stays failed"
        done = sae_auto_interp(*command, "--retry-failed", more_environment=cache_in(folder))
        assert done.returncode == 0, done.stderr
        assert failures_of(folder / "run") == {}
        spoilt = {key for key, score in scores_of(folder / "run").items() if score.failures}
        assert not spoilt & scored, "only scores of explanations that were not there before have failed trials"
        done = sae_auto_interp(*command, "--retry-failed", more_environment=cache_in(folder))
        assert done.returncode == 0, done.stderr
    assert not [trial for trial in trials_of(folder / "run") if trial.failure]
    assert set(llm.asked.values()) == {1}
    assert not rambled.asked & set(llm.asked), "nothing is paid for twice"
    assert sum("seed" in json.loads(body) for body in llm.asked) > 10
    assert spent_by(folder / "run", "explain", "score").n_paid - before.n_paid == llm.asked.total()


def test_killed_while_it_asks_anew_it_ends_with_the_same(
    rambled: Rambled, tmp_path: Path, prepare_run: PrepareRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = rambled.copied_to(tmp_path / "whole"), rambled.copied_to(tmp_path / "broken")
    llm = Rambler()
    with LlmServer(llm) as server:
        command = prepare_run(whole, section(server), "run")
        assert sae_auto_interp(*command, "--retry-failed", more_environment=cache_in(whole)).returncode == 0
        n_anew, llm.latency_seconds = llm.asked.total(), 0.05
        llm.asked.clear()
        monkeypatch.setenv("SAE_AUTO_INTERP_CACHE", str(broken / "cache"))
        command = prepare_run(broken, section(server), "run")
        status, _ = stopped_at("score: ", signal.SIGKILL, *command, "--retry-failed", delay_seconds=0.3)
        assert status == -signal.SIGKILL
        assert 0 < llm.asked.total() < n_anew
        assert sae_auto_interp(*command).returncode == 0, "the same run, gone on with: no flag is needed any more"
    assert explanations_of(broken / "run") == explanations_of(whole / "run")
    assert scores_of(broken / "run") == scores_of(whole / "run")
    assert llm.asked.total() <= n_anew + 16, "what was in flight is asked once more, and nothing that was stored"
