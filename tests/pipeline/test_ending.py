"""A run in which an explainer or a judge got nothing at all says so, each time that it is run."""

import asyncio
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.clients.scripted import Answer
from sae_auto_interp.config import RunConfig
from sae_auto_interp.errors import EndpointLostError, PromptTooLongError, RefusedRequestError, RunDirectoryError
from sae_auto_interp.pipeline.clients.open_clients import RunClients
from sae_auto_interp.pipeline.progress.displays import LineProgress
from sae_auto_interp.pipeline.progress.ending import stored_failures
from sae_auto_interp.pipeline.resolved import Stage, resolve
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.stages import explain_and_score
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types import Request
from tests.pipeline.small_runs import answers, configuration, loader_of, write_small_cache
from tests.support.explaining import is_to_explain

REFUSED = RefusedRequestError("http://host/v1 answered 400: no such thing as response_format")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return write_small_cache(tmp_path_factory.mktemp("run"))


def ending(
    config: RunConfig,
    directory: RunDirectory,
    results: Path,
    script: Callable[[Request], Answer],
    until: Stage = "score",
) -> tuple[str, ...]:
    """The lines about what got nothing, of a run with this language model."""
    client = ScriptedClient(script)
    with ResultStore.open(results) as store, LineProgress(io.StringIO()) as progress:  # pyright: ignore[reportArgumentType]
        loader = loader_of(directory, config)
        return asyncio.run(
            explain_and_score(resolve(config), loader, store, RunClients(client, client), progress, until)
        )


def test_a_run_with_some_failures_has_something_of_everybody(directory: RunDirectory, tmp_path: Path) -> None:
    assert ending(configuration(), directory, tmp_path / "r.sqlite", answers) == ()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(REFUSED, "refused_request: http://host/v1 answered 400"), ("Herons, rivers, and then some.", "unparsable")],
)
@pytest.mark.parametrize("until", ["explain", "score"])
def test_an_explainer_without_any_explanation(
    answer: Answer, kind: str, until: Stage, directory: RunDirectory, tmp_path: Path
) -> None:
    results = tmp_path / "r.sqlite"
    (line,) = ending(configuration(), directory, results, lambda _: answer, until)
    assert line.startswith(f"explainer simple explained no feature (10 × explain {kind}")
    (again,) = ending(configuration(), directory, results, lambda _: answer, until)
    assert again == line, "of a run whose work was all done before"


def test_a_judge_without_any_verdict_while_all_is_explained(directory: RunDirectory, tmp_path: Path) -> None:
    def script(request: Request) -> Answer:
        return "words of some kind" if not is_to_explain(request) else "[EXPLANATION]: words of some kind"

    found = ending(configuration(), directory, tmp_path / "r.sqlite", script)
    assert [line.partition(" has ")[0] for line in found] == [
        "detection, judged by llm:scripted,", "fuzzing, judged by llm:scripted,",
    ]  # fmt: skip
    assert all("about what simple says (" in line and "unparsable: " in line for line in found)
    with ResultStore.open(tmp_path / "r.sqlite", read_only=True) as store:
        kinds = {(each.stage, each.kind): each for each in stored_failures(store)}
    assert kinds["score", "unparsable"].n > 200
    assert kinds["score", "unparsable"].message


def test_one_scorer_of_two_without_any_verdict(directory: RunDirectory, tmp_path: Path) -> None:
    config = configuration()

    def script(request: Request) -> Answer:
        marked = any("<<" in message.content for message in request.messages[-1:])
        return REFUSED if not is_to_explain(request) and marked else answers(request)

    (line,) = ending(config, directory, tmp_path / "r.sqlite", script)
    assert line.startswith("fuzzing, judged by llm:scripted, has no readable answer about what simple says (")
    assert "refused_request: http://host/v1 answered 400" in line


def test_an_empty_control_is_no_reason(directory: RunDirectory, tmp_path: Path) -> None:
    """The hidden baseline alone is refused: among the failures, and not what was asked for."""

    def script(request: Request) -> Answer:
        text = "\n".join(message.content for message in request.messages)
        return answers(request) if "words of" in text or is_to_explain(request) else REFUSED

    assert ending(configuration(), directory, tmp_path / "r.sqlite", script) == ()
    with ResultStore.open(tmp_path / "r.sqlite", read_only=True) as store:
        assert "refused_request" in {each.kind for each in stored_failures(store)}


@pytest.mark.parametrize("n_before", [0, 3])
def test_no_prompt_fits_and_the_run_stops(n_before: int, directory: RunDirectory, tmp_path: Path) -> None:
    turns = iter(range(10**6))

    def script(request: Request) -> Answer:
        turn = next(turns)
        return answers(request) if turn < n_before else PromptTooLongError(f"request ({600 + turn} tokens) exceeds 128")

    client = {"base_url": "http://127.0.0.1:1/v1", "max_concurrency": 4, "max_same_refusals": 5}
    with pytest.raises(EndpointLostError, match=r"5 explanations or scores in a row .* exceeds 128\)"):
        ending(configuration(client=client), directory, tmp_path / "r.sqlite", script)
    ending(configuration(client=client), directory, tmp_path / "r.sqlite", answers)
    with ResultStore.open(tmp_path / "r.sqlite", read_only=True) as store:
        assert store.n_explanations("simple") > 0, "the same command goes on"


def test_why_there_is_no_record_at_all(directory: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(
        RunDirectoryError, match=r"no feature has enough examples \(\d+ × records rare: .*min_examples is 300"
    ):
        ending(configuration({"min_examples": 300}), directory, tmp_path / "r.sqlite", answers)
    with pytest.raises(RunDirectoryError, match=r"no feature fires often enough; cache more text \(data\.n_tokens\)"):
        ending(configuration({"min_examples": 10**6}), directory, tmp_path / "q.sqlite", answers)
