"""How a run ends against servers that count nothing, ask for years, repeat the key, or never stop talking."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sae_auto_interp.results import RESULTS_FILE, ResultStore
from sae_auto_interp.types.spending import NOTHING_SPENT, Spent
from tests.e2e.conftest import PrepareRun
from tests.e2e.runs import environment, sae_auto_interp
from tests.support.llm_server import LlmServer, Received, Reply, error
from tests.support.scripted_llm import explain_and_judge, is_of_the_run
from tests.support.warm import WarmCall

PRICE = "price: {usd_per_million_prompt_tokens: 1, usd_per_million_completion_tokens: 4}"


def run_against(
    server: LlmServer, folder: Path, prepare_run: PrepareRun, more: str = "", sections: str = ""
) -> "subprocess.CompletedProcess[str]":
    client = f"client: {{base_url: '{server.base_url}', max_concurrency: 100, {PRICE}{more}}}\n{sections}"
    cache = {"SAE_AUTO_INTERP_CACHE": str(folder / "cache")}
    return sae_auto_interp(*prepare_run(folder, client, "run"), more_environment=cache)


def spent_in(folder: Path) -> Spent:
    with ResultStore.open(folder / "run" / RESULTS_FILE, read_only=True) as store:
        return sum(store.spending().values(), NOTHING_SPENT)


def counting(usage: object) -> Callable[[Received], Reply]:
    def reply(received: Received) -> Reply:
        answered = explain_and_judge(received)
        if received.method == "GET":
            return answered
        return replace(answered, body=json.dumps(json.loads(answered.body) | {"usage": usage}).encode())

    return reply


@pytest.mark.parametrize(
    "usage", [None, {"prompt_tokens": 2**63, "completion_tokens": 1}, {"prompt_tokens": 10**18, "completion_tokens": 7}]
)
def test_the_cap_holds_where_nothing_usable_is_counted(usage: object, tmp_path: Path, prepare_run: PrepareRun) -> None:
    with LlmServer(counting(usage)) as server:
        done = run_against(server, tmp_path, prepare_run, sections="budget: {max_usd: 0.06}\n")
        n_sent = sum(received.method == "POST" for received in server.requests)
    assert done.returncode == 2, done.stderr
    assert "the budget is used up" in done.stderr
    assert done.stderr.count("does not say how many tokens") == 1
    assert "Traceback" not in done.stderr
    spent = spent_in(tmp_path)
    assert spent.n_uncounted == spent.n_paid
    assert n_sent - 3 <= spent.n_paid <= n_sent, "all that was answered is in the count"
    assert 0.05 < spent.usd <= 0.06
    status = sae_auto_interp("status", tmp_path / "run")
    assert f"{spent.n_uncounted:,} without a usable count, charged at most" in status.stdout


def test_without_a_price_unknown_tokens_are_shown_at_most(tmp_path: Path, prepare_run: PrepareRun) -> None:
    with LlmServer(counting(None)) as server:
        client = f"client: {{base_url: '{server.base_url}'}}\n"
        done = sae_auto_interp(
            *prepare_run(tmp_path, client, "run"), more_environment={"SAE_AUTO_INTERP_CACHE": str(tmp_path / "cache")}
        )
    assert done.returncode == 0, done.stderr
    assert "≤ " in done.stdout
    assert "without a usable count of tokens" in " ".join(done.stdout.split())
    page = next((tmp_path / "run").rglob("report.html")).read_text()
    assert "without a usable count of tokens" in page
    assert "not counted by the server" in page
    assert spent_in(tmp_path).tokens > 1000


@pytest.mark.parametrize(("status", "retry_after"), [(429, "1000000000"), (503, "Fri, 01 Jan 2100 00:00:00 GMT")])
def test_a_wait_of_years_ends_the_run_with_its_reason(
    status: int, retry_after: str, tmp_path: Path, prepare_run: PrepareRun
) -> None:
    def reply(received: Received) -> Reply:
        busy = replace(error(status, "come back later"), headers={"Retry-After": retry_after})
        return busy if is_of_the_run(received.raw_body) else explain_and_judge(received)

    with LlmServer(reply) as server:
        done = run_against(server, tmp_path, prepare_run)
    assert done.returncode == 2
    assert "asks to wait more than ten years (Retry-After), and give_up_seconds is 1,800 s" in done.stderr
    assert "come back later" in done.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_a_wait(how: signal.Signals, tmp_path: Path, prepare_run: PrepareRun) -> None:
    def reply(received: Received) -> Reply:
        busy = replace(error(429, "busy"), headers={"Retry-After": "900"})
        return busy if is_of_the_run(received.raw_body) else explain_and_judge(received)

    with LlmServer(reply) as server:
        arguments = prepare_run(tmp_path, f"client: {{base_url: '{server.base_url}'}}\n", "run")
        variables = environment() | {"SAE_AUTO_INTERP_CACHE": str(tmp_path / "cache")}
        with WarmCall(arguments, variables) as it:
            said = ""
            for line in it.stderr:
                said += line
                if "asks to wait 900 s" in line:
                    break
            assert "(Retry-After); the run waits, and goes on by itself" in said
            began = time.monotonic()
            it.send_signal(how)
            said += it.stderr.read()
            assert it.wait(timeout=60) == 128 + how
            assert time.monotonic() - began < 30
    assert said.count("asks to wait 900 s") == 1
    assert "interrupted; nothing finished is lost" in said


def test_bodies_without_end_are_failures_and_not_memory(tmp_path: Path, prepare_run: PrepareRun) -> None:
    def reply(received: Received) -> Reply:
        return Reply(200, b" " * (33 << 20)) if is_of_the_run(received.raw_body) else explain_and_judge(received)

    with LlmServer(reply) as server:
        client = f"client: {{base_url: '{server.base_url}', max_concurrency: 1, attempts: 1, give_up_seconds: 1}}\n"
        done = sae_auto_interp(
            *prepare_run(tmp_path, client, "run"), more_environment={"SAE_AUTO_INTERP_CACHE": str(tmp_path / "cache")}
        )
    assert "broken_reply)" in done.stderr
    assert "Traceback" not in done.stderr
    with ResultStore.open(tmp_path / "run" / RESULTS_FILE, read_only=True) as store:
        messages = {failure.message for _, failure in store.failures()}
    assert any("cannot be read: it is longer than 32 MiB" in message for message in messages)
    assert max(map(len, messages)) < 1000
