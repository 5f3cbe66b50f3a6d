"""The first ctrl-C or SIGTERM lets what is being asked finish; the second one stops at once."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from sae_auto_interp.pipeline.run_directory import RunDirectory
from tests.e2e.test_killed import ROOT
from tests.pipeline.small_runs import contents, write_small_cache
from tests.support.llm_server import LlmServer, Received, Reply
from tests.support.scripted_llm import explain_and_judge

LIMIT = 3


class SlowServer(LlmServer):
    """Takes `seconds` for each answer, and says when `n` were asked for."""

    def __init__(self, seconds: float) -> None:
        super().__init__(self._answer)
        self.seconds = seconds
        self.asked: list[bytes] = []
        self.waiting_for = threading.Semaphore(0)

    def _answer(self, received: Received) -> Reply:
        self.asked.append(received.raw_body)
        self.waiting_for.release()
        self.closing.wait(self.seconds)
        return explain_and_judge(received)

    def wait_for(self, n: int) -> None:
        for _ in range(n):
            assert self.waiting_for.acquire(timeout=120), "no request came"


def start(directory: RunDirectory, results: Path, server: SlowServer) -> "subprocess.Popen[str]":
    program = [sys.executable, "-m", "tests.support.small_run_program", str(directory.root), str(results)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [*program, server.base_url, str(LIMIT)], stderr=subprocess.PIPE, env=environment, cwd=ROOT, text=True
    )


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return write_small_cache(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_what_was_asked_is_stored_and_never_asked_again(
    how: signal.Signals, directory: RunDirectory, tmp_path: Path
) -> None:
    with SlowServer(0.02) as server:
        process = start(directory, tmp_path / "results.sqlite", server)
        server.wait_for(30)
        process.send_signal(how)
        _, said = process.communicate(timeout=120)
        assert "stopping: what is being asked is finished first" in said
        assert f"RunInterruptedError({int(how)})" in said or "interrupted; nothing finished is lost" in said
        n_before = len(server.asked)
        assert len(contents(tmp_path / "results.sqlite")["scores"]) > 0
        again = start(directory, tmp_path / "results.sqlite", server)
        _, said = again.communicate(timeout=120)
        assert again.returncode == 0, said
    assert n_before < len(server.asked)
    assert Counter(server.asked).most_common(1)[0][1] == 1


def test_the_second_signal_stops_at_once(directory: RunDirectory, tmp_path: Path) -> None:
    with SlowServer(60.0) as server:
        process = start(directory, tmp_path / "results.sqlite", server)
        server.wait_for(LIMIT)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        for line in process.stderr:
            if "stopping" in line:
                break
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=50)
        assert time.monotonic() - began < 40
        assert process.returncode != 0
