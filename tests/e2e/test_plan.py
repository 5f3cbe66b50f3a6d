"""What `plan` says beforehand is what the run then takes, within 20 %: on the demo, and on a small run."""

import asyncio
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.config import load_config
from sae_auto_interp.errors import ConfigError
from sae_auto_interp.pipeline.planning.plan import Assumptions, Plan, make_plan
from tests.e2e.runs import command, environment, sae_auto_interp, write_run_file
from tests.support.llm_server import LlmServer, Received
from tests.support.scripted_llm import explain_and_judge, is_of_the_run

PIECE = re.compile(r" ?[A-Za-z]{1,7}|\d{1,3}| ?[^\sA-Za-z\d]{1,2}|\s+")
"""About how the tokenizers of language models cut text: short words, three digits, pairs of signs."""
PRICES = Assumptions(usd_per_million_prompt_tokens=2.0, usd_per_million_completion_tokens=10.0)
N_DEMO = 12
of_the_demo = pytest.mark.skipif(not os.environ.get("SAE_AUTO_INTERP_SOAK"), reason="a minute: make soak")


def n_tokens(text: str) -> int:
    return len(PIECE.findall(text))


@dataclass(frozen=True)
class Used:
    """What a server was asked, and gave."""

    n_requests: int
    prompt_tokens: int
    completion_tokens: int

    @classmethod
    def of(cls, server: LlmServer) -> "Used":
        asked = [r for r in server.requests if r.method == "POST" and is_of_the_run(r.raw_body)]
        prompts = [message["content"] for r in asked for message in r.body["messages"]]
        return cls(len(asked), sum(map(n_tokens, prompts)), sum(n_tokens(said(r)) for r in asked))


def said(received: Received) -> str:
    return json.loads(explain_and_judge(received).body)["choices"][0]["message"]["content"]


def is_near(planned: float, used: float) -> bool:
    return abs(planned - used) <= 0.2 * used


def mib_of(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20


def planned(*arguments: str | Path) -> dict[str, Any]:
    done = sae_auto_interp(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def total(plan: dict[str, Any], field: str) -> int:
    return sum(plan[stage][field] for stage in ("explain", "score", "control"))


PEAK_OF = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, resources = os.wait4(process.pid, 0)
print(resources.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Started by a small process: the peak of a child is never less than what its parent held when it was started."""


@dataclass(frozen=True)
class Demo:
    before: dict[str, Any]
    after: dict[str, Any]
    """Planned again, with the cache that the run made."""
    used: Used
    folder: Path
    peak_mib: float


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo, planned and then run; its cache and its examples are those of the demo of any size."""
    folder = tmp_path_factory.mktemp("demo")
    with LlmServer(explain_and_judge) as server:
        arguments = ["demo", "--features", str(N_DEMO), "--base-url", server.base_url, "--out", str(folder / "run")]
        before = planned(*arguments, "--plan")
        assert not server.requests
        assert not (folder / "run").exists()
        variables = environment() | {"SAE_AUTO_INTERP_CACHE": str(folder / "cache")}
        watched = [sys.executable, "-c", PEAK_OF, *command(*arguments)]
        peak_kib = int(subprocess.run(watched, capture_output=True, check=True, env=variables).stdout.split()[-1])
        used = Used.of(server)
        after = planned("plan", folder / "run" / "config.yaml", "--out", folder / "run")
    return Demo(before, after, used, folder, peak_kib / 1024)


@of_the_demo
def test_the_demo_asks_what_was_planned(demo: Demo) -> None:
    """Some features turn out to have fewer examples than they may; with the cache that is known too."""
    assert is_near(total(demo.before, "n_requests"), demo.used.n_requests)
    assert total(demo.after, "n_requests") == demo.used.n_requests > 1000
    for plan in (demo.before, demo.after):
        assert is_near(total(plan, "prompt_tokens"), demo.used.prompt_tokens)
        assert is_near(total(plan, "completion_tokens"), demo.used.completion_tokens)


@of_the_demo
def test_the_demo_takes_the_disk_and_the_memory_that_were_planned(demo: Demo) -> None:
    run = mib_of(demo.folder / "run")
    results = mib_of(demo.folder / "run" / "report") + (demo.folder / "run" / "results.sqlite").stat().st_size / 2**20
    for plan in (demo.before, demo.after):
        sizes = plan["sizes"]
        assert is_near(sizes["cache"] + sizes["results"], run)
        assert is_near(sizes["results"], results)
        assert is_near(sizes["answers"], mib_of(demo.folder / "cache"))
        assert is_near(sizes["ram"], demo.peak_mib)


def test_before_and_after_a_small_run(tmp_path: Path) -> None:
    with LlmServer(explain_and_judge) as server:
        client = f"client: {{base_url: '{server.base_url}', max_concurrency: 8}}\nn_shuffled: 2\nn_hidden: 3\n"
        client += "n_nearest: 1\nresponses: {mode: 'off'}\n"  # here the nearest is the one before, too
        path = write_run_file(tmp_path, "simple", more=client)  # and the lexical baseline, which asks nothing
        before: Plan = asyncio.run(make_plan(load_config(path), None, PRICES))
        assert not server.requests
        done = sae_auto_interp("run", path, "--out", tmp_path / "run")
        assert done.returncode == 0, done.stderr
        used = Used.of(server)
        after: Plan = asyncio.run(make_plan(load_config(path), tmp_path / "run", PRICES))
    for plan in (before, after):
        assert plan.usage.n_requests == used.n_requests == 4 + (4 + 2 + 1 + 3) * 8
        assert is_near(plan.usage.prompt_tokens, used.prompt_tokens)
        assert plan.usd == pytest.approx((2 * plan.usage.prompt_tokens + 10 * plan.usage.completion_tokens) / 1e6)
    assert after.evidence.startswith("all 4 records of ")


def test_the_command_says_what_it_assumed(tmp_path: Path) -> None:
    path = write_run_file(tmp_path, "simple", more="client: {base_url: 'http://127.0.0.1:1/v1', max_concurrency: 10}\n")
    done = sae_auto_interp("plan", path, "--seconds-per-answer", "2", "--prompt-price", "1", "--completion-price", "2")
    assert done.returncode == 0, done.stderr
    assert "time of answers:   20 s (10 at once)" in done.stdout  # 4 * (1 + 8 + 8 + 8) requests
    assert "tokens as current tokenizers cut text, 2 s per answer" in done.stdout
    assert "64 features per token of each autoencoder assumed (rough: --measure loads and counts)" in done.stdout
    assert "USD" in done.stdout
    assert "a dozen short questions about what it can do come on top" in done.stdout
    machine = planned("plan", path, "--max-concurrency", "20", "--characters-per-token", "2")
    assert machine["explain"]["n_requests"] == 4
    assert machine["answer_seconds"] == 5
    assert machine["usd"] is None


def test_the_price_is_the_run_file_s_where_no_other_is_given(tmp_path: Path) -> None:
    prices = "{usd_per_million_prompt_tokens: 3, usd_per_million_completion_tokens: 5}"
    path = write_run_file(tmp_path, "simple", more=f"client: {{base_url: 'http://127.0.0.1:1/v1', price: {prices}}}\n")
    noted = asyncio.run(make_plan(load_config(path)))
    assert noted.usd == pytest.approx((3 * noted.usage.prompt_tokens + 5 * noted.usage.completion_tokens) / 1e6)
    given = asyncio.run(make_plan(load_config(path), None, PRICES))
    assert given.usd == pytest.approx((2 * given.usage.prompt_tokens + 10 * given.usage.completion_tokens) / 1e6)


def test_a_wrong_run_file_cannot_be_planned(tmp_path: Path) -> None:
    path = write_run_file(tmp_path, "simple")
    with pytest.raises(ConfigError, match="needs a language model"):
        asyncio.run(make_plan(load_config(path)))
    assert planned("plan", path, "--base-url", "http://127.0.0.1:1/v1")["explain"]["n_requests"] == 4
