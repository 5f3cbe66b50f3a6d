"""A run with scorers that need more than a judge: they get it, results do not depend on timing, and what is missing is
said before any work is done."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.clients import LimitedClient, ScriptedClient
from sae_auto_interp.config import RunConfig, parse_config
from sae_auto_interp.errors import ConfigError, RefusedRequestError, ServerError
from sae_auto_interp.metrics import auroc, simulation_metrics, tpr
from sae_auto_interp.pipeline.clients import open_clients
from sae_auto_interp.pipeline.clients.readers import model_readers
from sae_auto_interp.pipeline.components import resolve_component
from sae_auto_interp.pipeline.progress.displays import make_progress
from sae_auto_interp.pipeline.progress.status import read_status, status_lines
from sae_auto_interp.pipeline.resolved import asks_language_model, resolve, resolve_inputs
from sae_auto_interp.pipeline.run import run_pipeline
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types import Request
from sae_auto_interp.types.spending import Account
from tests.support.prompt_readers import PlacedReader, WordReader

BASE: dict[str, Any] = {
    "model": "embedded:language_model",
    "device": "cpu",
    "autoencoders": ["embedded:sparse_coders/openai"],
    "data": {"n_tokens": 12_000, "ctx_len": 128, "max_chars_per_document": 3000},
    "preflight": {"enabled": False},
    "responses": {"mode": "off"},
    "features": {
        "n_features": 2, "n_train": 10, "n_test": 10, "n_non_activating_train": 10, "n_non_activating_test": 10,
        "min_examples": 15, "window": 16,
    },
    "client": {"base_url": "http://127.0.0.1:1"},
    "prompt_reader": {"base_url": "http://127.0.0.1:2", "attempts": 1},
    "scorers": [
        {"name": "simulation", "n_windows": 6},
        {"name": "simulation_all_at_once", "n_windows": 4},
        "surprisal",
        {"name": "generation", "n_texts": 4, "n_boundary": 4},
        {"name": "sensitivity", "n_texts": 4},
    ],
}  # fmt: skip


def config(**changes: Any) -> RunConfig:
    return parse_config(BASE | changes)


def lister(request: Request) -> str:
    """Levels by the length of a token; texts that depend on the explanation."""
    question = request.messages[-1].content
    if " tokens: " not in question:
        near = "near misses" in request.messages[0].content
        return json.dumps({"texts": [f"def f{i}({question[-20:]!r}, {near}): return {i}" for i in range(4)]})
    tokens = json.loads(question.partition(" tokens: ")[2])
    return json.dumps({"tokens": [{"token": t, "level": min(9, len(t))} for t in tokens]})


def rated(before: str, word: str) -> float:
    return -1.0 - (len(before) * 7 + len(word)) % 5


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """{address: the client behind it}."""
    behind: dict[str, Any] = {
        "http://127.0.0.1:1": LimitedClient(ScriptedClient(lister), max_concurrency=4),
        "http://127.0.0.1:2": WordReader(rated, lambda before, word: {str(len(before) % 7): -1.0, "0": -2.0}),
    }

    async def open_endpoint(config: Any, responses: Any, memory: Path | None) -> tuple[Any, str]:
        return behind[config.base_url], "scripted"

    monkeypatch.setattr(open_clients, "open_endpoint", open_endpoint)
    return behind


def stored(root: Path) -> dict[tuple[str, str, str], Any]:
    with ResultStore.open(root / "results.sqlite", read_only=True) as store:
        return {(judge, score.scorer, score.explanation_id): score for judge, score in store.scores()}


def test_every_scorer_runs_and_its_results_do_not_depend_on_timing(tmp_path: Path, opened: dict[str, Any]) -> None:
    asyncio.run(run_pipeline(config(), tmp_path / "first", make_progress()))
    first = stored(tmp_path / "first")
    by_scorer = {scorer: judge for judge, scorer, _ in first}
    assert by_scorer == {
        "simulation": "llm:scripted", "simulation_all_at_once": "llm:words",
        "surprisal": "llm:words", "generation": "llm:scripted", "sensitivity": "llm:scripted",
    }  # fmt: skip
    assert len(first) == 4 * 2 * 2 + 2  # scorers, features, explanation and control; sensitivity has no control
    for (_, scorer, _), score in first.items():
        assert not score.failures, score.failures[0]
        if score.kind == "simulation":
            assert simulation_metrics(score, _rng(), n_resamples=10).ev_correlation.value is not None
        elif scorer == "surprisal":
            assert auroc(score).value is not None
        else:
            assert tpr(score).value is not None
            assert {trial.source for trial in score.trials} == {"generated"}

    asked = ScriptedClient(lister, latency_seconds=0.001)
    opened["http://127.0.0.1:1"] = LimitedClient(asked, max_concurrency=1)
    slow = config(client=BASE["client"] | {"max_concurrency": 1})
    asyncio.run(run_pipeline(slow, tmp_path / "second", make_progress()))
    assert stored(tmp_path / "second") == first
    n_asked = len(asked.requests)
    asyncio.run(run_pipeline(slow, tmp_path / "second", make_progress()))
    assert len(asked.requests) == n_asked


def test_rated_texts_are_counted_charged_and_part_of_what_is_in_flight(
    tmp_path: Path, opened: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    only = config(scorers=["surprisal"], explainers=["lexical"], n_shuffled=0)
    with make_progress(events=True) as progress:
        asyncio.run(run_pipeline(only, tmp_path, progress))
    requests = json.loads(capsys.readouterr().out.splitlines()[-2])["requests"]
    with ResultStore.open(tmp_path / "results.sqlite", read_only=True) as store:
        spending = store.spending()
    of_scores = [spent for account, spent in spending.items() if account.stage == "score"]
    assert {account.stage for account in spending} == {"probe", "score"}
    assert requests["read"] == sum(spent.n_paid for spent in of_scores) > 2 * 10
    assert requests["prompt_tokens"] == sum(spent.prompt_tokens for spent in of_scores)
    assert spending[Account("probe", "", "words")].n_paid == 1, "whether it rates texts at all was tried"
    assert "texts rated" in "\n".join(status_lines(read_status(tmp_path)))


def _rng() -> Any:
    import numpy as np

    return np.random.default_rng(0)


@pytest.mark.parametrize("scorer", ["surprisal", "simulation_all_at_once"])
def test_a_client_that_does_not_rate_texts_is_refused_before_any_work(
    tmp_path: Path, opened: dict[str, Any], scorer: str
) -> None:
    needs = rf"scorers\.{scorer} needs a model that rates the tokens of a given text .* section prompt_reader"

    def attempt(**changes: Any) -> None:
        asyncio.run(run_pipeline(config(scorers=[scorer], **changes), tmp_path / "run", make_progress()))

    with pytest.raises(ConfigError, match=rf"{needs}: the client of scripted does not rate"):
        attempt(prompt_reader=None)
    opened["http://127.0.0.1:2"] = PlacedReader(lambda text: RefusedRequestError("echo is not supported"))
    with pytest.raises(ConfigError, match=rf"{needs}: echo is not supported"):
        attempt()
    assert not RunDirectory(tmp_path / "run").tokens.exists()
    with pytest.raises(ConfigError, match=r"needs a model that rates .* give a section prompt_reader, or a client"):
        resolve(config(scorers=[scorer], client=None, prompt_reader=None))


@pytest.mark.parametrize("scorer", ["simulation", "simulation_token_by_token", "generation"])
def test_a_scorer_that_asks_a_model_needs_one(scorer: str) -> None:
    with pytest.raises(ConfigError, match=rf"scorers\.{scorer} needs a language model"):
        resolve(config(scorers=[scorer], client=None))
    resolve(config(scorers=[scorer]))


def test_only_what_is_asked_for_is_opened(opened: dict[str, Any], tmp_path: Path) -> None:
    opened.clear()

    async def readers(**changes: Any) -> set[str]:
        chosen = config(**changes)
        scorers = [resolve_component("scorers", scorer) for scorer in chosen.scorers]
        async with model_readers(
            resolve_inputs(chosen), scorers, RunDirectory(tmp_path), None, is_scoring=True
        ) as found:
            return {protocol.__name__ for protocol in found}

    assert asyncio.run(readers(scorers=["detection"])) == set()
    assert asyncio.run(readers(scorers=["detection", "generation"])) == {"ActivationReader"}


def test_which_scorers_ask_a_language_model() -> None:
    def asks(scorer: str, *, has_own_reader: bool) -> bool:
        chosen = config(scorers=[scorer])
        return asks_language_model(chosen.explainers, chosen.scorers, has_own_reader=has_own_reader)

    asked = [asks(scorer, has_own_reader=True) for scorer in ("detection", "generation", "surprisal")]
    assert asked == [False, True, False]
    assert asks("surprisal", has_own_reader=False)


def test_a_window_whose_server_was_away_leaves_the_score_open_and_the_next_run_completes_it(
    tmp_path: Path, opened: dict[str, Any]
) -> None:
    n_asked = 0

    def away_once(request: Request) -> Any:
        nonlocal n_asked
        n_asked += 1
        return ServerError("503") if n_asked == 3 else lister(request)

    asked_once = BASE["client"] | {"attempts": 1}
    only = config(scorers=[{"name": "simulation", "n_windows": 4}], n_shuffled=0, client=asked_once)
    opened["http://127.0.0.1:1"] = ScriptedClient(away_once)
    asyncio.run(run_pipeline(only, tmp_path, make_progress()))
    with ResultStore.open(tmp_path / "results.sqlite", read_only=True) as store:
        assert [failure.kind for _, failure in store.failures()] == ["server_error"]
    assert len(stored(tmp_path)) == 1
    asyncio.run(run_pipeline(only, tmp_path, make_progress()))
    assert len(stored(tmp_path)) == 2
    assert not any(score.failures for score in stored(tmp_path).values())
    assert n_asked == 2 * 4 + 4
