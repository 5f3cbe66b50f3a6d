"""Killed by SIGKILL again and again while it explains and scores, a run ends with the same results and pays for no
answer twice that was stored.

SAE_AUTO_INTERP_SOAK=1 kills at more moments (`make soak`).
"""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.clients.http.chat_completions import as_ascii, encode_request
from sae_auto_interp.explainers import SimpleExplainer
from sae_auto_interp.judges import HiddenJudge, LlmJudge
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.results import ResultStore
from sae_auto_interp.scorers import DetectionScorer, FuzzingScorer
from sae_auto_interp.types import Explanation, FeatureRecord, Request
from tests.pipeline.small_runs import contents, write_small_cache
from tests.support.llm_server import LlmServer, Received, Reply
from tests.support.scripted_llm import MODEL, explain_and_judge

ROOT = Path(__file__).resolve().parents[2]
N_KILLS = 24 if os.environ.get("SAE_AUTO_INTERP_SOAK") else 4
SCORERS = {"detection": DetectionScorer, "fuzzing": FuzzingScorer}
LIMIT = 4


class CountingServer(LlmServer):
    """Kills the process that asks, once it has asked for so many answers."""

    def __init__(self) -> None:
        super().__init__(self._count)
        self.asked: list[bytes] = []
        self.patience: int | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._guard = threading.Lock()

    def _count(self, received: Received) -> Reply:
        if received.method == "POST":
            with self._guard:
                self.asked.append(received.raw_body)
                if self.patience is not None:
                    self.patience -= 1
                    if self.patience == 0 and self.process is not None:
                        self.process.send_signal(signal.SIGKILL)
        return explain_and_judge(received)


def start(directory: RunDirectory, results: Path, server: CountingServer) -> "subprocess.Popen[bytes]":
    program = [sys.executable, "-m", "tests.support.small_run_program"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [*program, str(directory.root), str(results), server.base_url, str(LIMIT)],
        stderr=subprocess.PIPE, env=environment, cwd=ROOT,
    )  # fmt: skip


def run_to_its_end(directory: RunDirectory, results: Path, server: CountingServer) -> None:
    server.process, server.patience = None, None
    process = start(directory, results, server)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said.decode()


def killed_after(n: int, directory: RunDirectory, results: Path, server: CountingServer) -> bool:
    """Whether the run lived to ask for `n` answers, which was its end."""
    server.patience = None
    server.process = process = start(directory, results, server)
    server.patience = n
    process.communicate(timeout=240)
    return process.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return write_small_cache(tmp_path_factory.mktemp("run"))


def paid_for(results: Path) -> set[bytes]:
    """The requests whose answers are stored, made anew from what they are about."""
    if not results.is_file():
        return set()
    with ResultStore.open(results, read_only=True) as store:
        explanations = dict(store.explanations())
        records = {record.feature: record for record in store.records()}
        scored = [
            (who, s.scorer, records[s.feature], explanations[s.explanation_id])
            for who, s in store.scores()
            if who != "lexical"
        ]
    own = [records[e.feature] for e in explanations.values() if e.explainer == "simple"]
    requests = [SimpleExplainer(nothing()).request(record) for record in own]
    for who, scorer, record, explanation in scored:
        requests += asyncio.run(asked_by(who, scorer, record, explanation))
    return {as_ascii(encode_request(request, MODEL)) for request in requests}


async def asked_by(who: str, scorer: str, record: FeatureRecord, explanation: Explanation) -> list[Request]:
    client = nothing()
    judge = LlmJudge(client=client)
    await SCORERS[scorer](judge=HiddenJudge(of=judge) if who.startswith("hidden:") else judge).score(
        record, explanation, "id"
    )
    return client.requests


def nothing() -> ScriptedClient:
    return ScriptedClient(lambda request: "nothing", model=MODEL)


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as running:
        yield running


def test_a_run_killed_at_many_moments_ends_the_same(
    directory: RunDirectory, server: CountingServer, tmp_path: Path
) -> None:
    run_to_its_end(directory, tmp_path / "whole.sqlite", server)
    whole: dict[str, Any] = contents(tmp_path / "whole.sqlite")
    n_requests = len(server.asked)
    assert Counter(server.asked).most_common(1)[0][1] == 1
    assert paid_for(tmp_path / "whole.sqlite") == set(server.asked)  # so `paid_for` knows all of them

    rng, results, n_kills = np.random.default_rng(), tmp_path / "killed.sqlite", 0
    while n_kills < N_KILLS:
        stored = paid_for(results)
        server.asked.clear()
        if killed_after(1 + int(rng.integers(1 + 3 * n_requests // (2 * N_KILLS))), directory, results, server):
            n_kills += 1
        else:  # it was over before: from the beginning
            assert contents(results) == whole
            for leftover in tmp_path.glob("killed.sqlite*"):
                leftover.unlink()
        assert not stored & set(server.asked), "an answer that was stored was paid for again"
    stored = paid_for(results)
    server.asked.clear()
    run_to_its_end(directory, results, server)
    assert not stored & set(server.asked)
    assert contents(results) == whole
