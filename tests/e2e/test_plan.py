"""What `plan` says beforehand is what the run then takes, within 20 %."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.config import load_config
from sae_auto_interp.errors import ConfigError
from sae_auto_interp.pipeline.plan import Assumptions, Plan, make_plan
from tests.e2e.runs import sae_auto_interp, write_run_file
from tests.support.llm_server import LlmServer
from tests.support.scripted_llm import explain_and_judge

PIECE = re.compile(r" ?[A-Za-z]{1,7}| ?\d{1,3}| ?[^\sA-Za-z\d]{1,2}|\s+")
"""About how the tokenizers of language models cut text: short words, three digits, pairs of signs."""
PRICES = Assumptions(usd_per_million_prompt_tokens=2.0, usd_per_million_completion_tokens=10.0)


def spent(bodies: list[dict[str, Any]]) -> tuple[int, int]:
    """Requests and prompt tokens."""
    texts = [message["content"] for body in bodies for message in body["messages"]]
    return len(bodies), sum(len(PIECE.findall(text)) for text in texts)


def is_near(planned: float, used: float) -> bool:
    return abs(planned - used) <= 0.2 * used


def test_before_and_after_a_run(tmp_path: Path) -> None:
    with LlmServer(explain_and_judge) as server:
        client = f"client: {{base_url: '{server.base_url}', max_concurrency: 8}}\nn_shuffled: 2\nn_hidden: 3\n"
        path = write_run_file(tmp_path, "simple", more=client)  # and the lexical baseline, which asks nothing
        before: Plan = asyncio.run(make_plan(load_config(path), None, PRICES))
        assert not server.requests
        done = sae_auto_interp("run", path, "--out", tmp_path / "run")
        assert done.returncode == 0, done.stderr
        posted = [r.body for r in server.requests if r.method == "POST" and "messages" in r.body]
        bodies = [body for body in posted if "[EXPLANATION]" in str(body) or "Excerpt 1:" in str(body)]
        after: Plan = asyncio.run(make_plan(load_config(path), tmp_path / "run", PRICES))
    n_requests, n_tokens = spent(bodies)
    for plan in (before, after):
        assert plan.usage.n_requests == n_requests == 4 + (4 + 2 + 3) * 8
        assert is_near(plan.usage.prompt_tokens, n_tokens), (plan.usage, n_tokens)
        assert plan.usd == pytest.approx((2 * plan.usage.prompt_tokens + 10 * plan.usage.completion_tokens) / 1e6)
    results = (tmp_path / "run" / "results.sqlite").stat().st_size / 2**20
    assert 0.3 < before.results_mib / results < 1.5  # a small file is mostly SQLite's own pages


def test_the_command_says_what_it_assumed(tmp_path: Path) -> None:
    path = write_run_file(tmp_path, "simple", more="client: {base_url: 'http://127.0.0.1:1/v1', max_concurrency: 10}\n")
    done = sae_auto_interp("plan", path, "--seconds-per-answer", "2", "--prompt-price", "1", "--completion-price", "2")
    assert done.returncode == 0, done.stderr
    assert "time of answers:   20 s (10 at once)" in done.stdout  # 4 * (1 + 8 + 8 + 8) requests
    assert "3.7 characters per token, 2 s per answer" in done.stdout
    assert "USD" in done.stdout
    machine = json.loads(sae_auto_interp("plan", path, "--json").stdout)
    assert machine["explain"]["n_requests"] == 4
    assert machine["usd"] is None


def test_a_wrong_run_file_cannot_be_planned(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a language model"):
        asyncio.run(make_plan(load_config(write_run_file(tmp_path, "simple"))))
