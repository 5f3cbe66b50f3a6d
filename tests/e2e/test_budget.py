"""A run with a cap stops below it, and goes on without paying for anything twice; a replay costs nothing."""

from pathlib import Path

import pytest

from tests.e2e.conftest import N_FEATURES, PrepareRun
from tests.e2e.runs import sae_auto_interp
from tests.e2e.stored import explanations_of, failures_of, scores_of, spent_by
from tests.support.chaos_llm import ChaosLlm
from tests.support.llm_server import LlmServer

SLOTS = 4
PRICE = "{usd_per_million_prompt_tokens: 2.0, usd_per_million_completion_tokens: 8.0}"


def client_section(server: LlmServer, more: str = "") -> str:
    return (
        f"client: {{base_url: '{server.base_url}', model: my-model, max_concurrency: {SLOTS}, price: {PRICE}}}\n{more}"
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, prepare_run: PrepareRun) -> tuple[Path, ChaosLlm, list[str]]:
    """The run directory, the server, and what three calls of the command said: capped, with a higher cap, replayed."""
    folder, llm = tmp_path_factory.mktemp("budget"), ChaosLlm(faults=())
    own_cache = {"SAE_AUTO_INTERP_CACHE": str(folder / "cache")}
    said: list[str] = []

    def call(out: str, section: str) -> int:
        done = sae_auto_interp(*prepare_run(folder, section, out), more_environment=own_cache)
        said.append(done.stderr)
        return done.returncode

    with LlmServer(llm) as server:
        assert call("run", client_section(server, "budget: {max_usd: 0.05}\n")) == 2, said
        spent, of_run = spent_by(folder / "run"), spent_by(folder / "run", "explain", "score")
        largest = max(len(body) for body in llm.attempts)
        one = (largest + 1000) * 2e-6 + 500 * 8e-6  # a token is at least a byte
        assert 0.05 - one * SLOTS < spent.usd <= 0.05
        assert of_run.n_paid == llm.delivered.total()
        assert spent.usd > of_run.usd, "what the endpoint was asked about itself is under the cap too"
        assert failures_of(folder / "run") == {}, "units are open, not failed"
        assert call("run", client_section(server, "budget: {max_usd: 5}\n")) == 0, said
        closed = client_section(server, "responses: {mode: replay}\n")
    assert call("replayed", closed) == 0, said
    return folder, llm, said


def test_the_message_says_what_to_do(runs: tuple[Path, ChaosLlm, list[str]]) -> None:
    last = runs[2][0].splitlines()[-1]
    assert last.startswith("error: the budget is used up: $0.0")
    assert last.endswith("raise budget.max_usd and run the same command again to go on")
    assert "Traceback" not in runs[2][0]


def test_going_on_pays_for_nothing_twice(runs: tuple[Path, ChaosLlm, list[str]]) -> None:
    folder, llm, _ = runs
    assert len(llm.attempts) == N_FEATURES * (1 + 6 * 4)
    assert set(llm.attempts.values()) == set(llm.delivered.values()) == {1}
    spent = spent_by(folder / "run", "explain", "score")
    assert spent.n_paid == llm.delivered.total()
    assert spent.prompt_tokens == sum(len(body) // 4 for body in llm.attempts)
    assert spent.usd == pytest.approx(spent.prompt_tokens * 2e-6 + spent.completion_tokens * 8e-6)


def test_a_replay_asks_nobody_and_has_the_same_results(runs: tuple[Path, ChaosLlm, list[str]]) -> None:
    folder, llm, _ = runs
    assert explanations_of(folder / "replayed") == explanations_of(folder / "run")
    assert scores_of(folder / "replayed") == scores_of(folder / "run")
    replayed = spent_by(folder / "replayed")
    assert (replayed.n_paid, replayed.usd, replayed.tokens) == (0, 0.0, 0)
    assert replayed.n_cached == len(llm.attempts)
