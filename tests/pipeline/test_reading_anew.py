"""A run that an older reader of replies made is continued: its stored replies are read anew, and nobody is asked."""

import asyncio
import io
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.clients import CachingClient, ResponseStore, ScriptedClient
from sae_auto_interp.config import RunConfig
from sae_auto_interp.pipeline.clients.open_clients import RunClients
from sae_auto_interp.pipeline.progress.displays import LineProgress
from sae_auto_interp.pipeline.resolved import resolve
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.stages import explain_and_score
from sae_auto_interp.protocols import Client
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types import Failure, Request, Response, Score
from tests.pipeline.small_runs import answers, configuration, contents, loader_of, write_small_cache

UNPARSABLE = Failure("explain", "unparsable", "the reply has no explanation", "some reply")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return write_small_cache(tmp_path_factory.mktemp("run"))


def is_to_explain(request: Request) -> bool:
    return request.schema is None or '"explanation"' in request.schema


def script(request: Request) -> str:
    """Explanations, one in six unreadable; verdicts as in other small runs."""
    if not is_to_explain(request):
        return answers(request)
    digest = zlib.crc32(request.messages[-1].content.encode("utf-8", "surrogatepass"))
    return f"[EXPLANATION]: words of kind {digest}" if digest % 6 else "I cannot say."


@dataclass(frozen=True)
class OlderVersion:
    """Asks for explanations as versions did that sent no schema with it."""

    client: Client
    model: str

    async def generate(self, request: Request) -> Response:
        older = replace(request, schema=None) if is_to_explain(request) else request
        return await self.client.generate(older)

    async def close(self) -> None:
        """Nothing is open."""


def run(
    config: RunConfig, directory: RunDirectory, results: Path, responses: Path, *, is_older: bool = False
) -> tuple[list[Request], str]:
    """Run to the end; what the model was asked, and what was said."""
    client, said = ScriptedClient(script), io.StringIO()
    with (
        ResultStore.open(results) as store,
        LineProgress(said) as progress,
        ResponseStore(responses) as kept,
    ):
        cached = CachingClient(client, kept)
        clients = RunClients(OlderVersion(cached, cached.model) if is_older else cached, cached)
        asyncio.run(explain_and_score(resolve(config), loader_of(directory, config), store, clients, progress))
    return client.requests, said.getvalue()


def results_in(path: Path) -> dict[str, Any]:
    """Everything but the ids of prompts: an older version's were others than those that it was asked by here."""
    with ResultStore.open(path, read_only=True) as store:
        said = {unit: explanation.text for unit, explanation in store.explanations()}
    return contents(path) | {"explanations": said}


def as_if_read_by_an_older_reader(store: ResultStore) -> int:
    """Forget the readers' versions and spoil results as a wrong reading would; how many were spoilt."""
    for key in [key for key in store.info() if key.startswith("reader of ")]:
        store.set_info(key, "1")
    spoilt = 0
    for judge, score in store.scores()[::3]:
        if judge.startswith(("llm:", "hidden:llm:")):
            store.replace_score("score", f"{score.scorer}/{judge}/{score.explanation_id}", inverted(score), judge)
            spoilt += 1
    own = [(unit, e) for unit, e in store.explanations() if e.explainer == "simple"]
    store.replace_explanation("explain", own[0][0], UNPARSABLE)
    store.replace_explanation("explain", own[1][0], replace(own[1][1], text=own[1][1].text + "\n\nI hope this helps!"))
    unreadable = next(unit for unit, failure in store.failures() if failure.stage == "explain" and unit != own[0][0])
    feature = next(record.feature for record in store.records() if unreadable.endswith(str(record.feature)))
    misread = replace(own[0][1], feature=feature, text="I cannot say.")
    store.replace_explanation("explain", unreadable, misread)
    return spoilt + 3


def inverted(score: Score) -> Score:
    trials = tuple(replace(t, prediction=None if t.prediction is None else not t.prediction) for t in score.trials)
    return replace(score, trials=trials)


def test_an_older_run_is_read_anew_and_nobody_is_asked(directory: RunDirectory, tmp_path: Path) -> None:
    config, results, responses = configuration(), tmp_path / "results.sqlite", tmp_path / "responses.sqlite"
    first, said = run(config, directory, results, responses, is_older=True)
    assert len(first) > 20
    assert "older reader" not in said
    before = results_in(results)
    with ResultStore.open(results) as store:
        assert as_if_read_by_an_older_reader(store) > 5
    assert results_in(results) != before
    asked, said = run(config, directory, results, responses)
    assert asked == []
    assert results_in(results) == before
    assert "explain: 10 finished units were made by an older reader of replies" in said
    assert "stay as they are" not in said
    asked, said = run(config, directory, results, responses)
    assert asked == []
    assert "older reader" not in said, "once"
    assert results_in(results) == before


def test_what_is_not_stored_any_more_stays_as_it_is(directory: RunDirectory, tmp_path: Path) -> None:
    config, results = configuration(), tmp_path / "results.sqlite"
    run(config, directory, results, tmp_path / "responses.sqlite")
    with ResultStore.open(results) as store:
        as_if_read_by_an_older_reader(store)
        store.reopen("score", next(iter(store.finished_units("score"))))
    spoilt = contents(results)
    asked, said = run(config, directory, results, tmp_path / "another.sqlite")
    assert "10 stay as they are: not all their answers are stored" in said
    after = contents(results)
    assert set(after["explanations"]) >= set(spoilt["explanations"])
    assert set(after["finished"]) > set(spoilt["finished"])
    n_missing = len(set(after["finished"]) - set(spoilt["finished"]))
    assert 0 < len(asked) <= 4 * n_missing, "only what has no result yet is asked"


def test_without_a_cache_of_answers_nothing_is_read_anew(directory: RunDirectory, tmp_path: Path) -> None:
    off: dict[str, Any] = {"responses": {"mode": "off"}}
    config, results = configuration(**off), tmp_path / "results.sqlite"
    run(config, directory, results, tmp_path / "responses.sqlite")
    with ResultStore.open(results) as store:
        as_if_read_by_an_older_reader(store)
        finished = {stage: store.finished_units(stage) for stage in ("explain", "score")}
    _, said = run(config, directory, results, tmp_path / "responses.sqlite")
    assert "they stay as they are, as responses.mode is off" in said
    with ResultStore.open(results) as store:
        assert all(store.finished_units(stage) >= units for stage, units in finished.items())
