"""OpenAIBatchClient over real sockets: one batch for what is asked at once, and after a restart the same batch."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.clients import OpenAIBatchClient, RetryingClient
from sae_auto_interp.clients.http.batch_files import BatchFile, Submitted
from sae_auto_interp.errors import (
    ClientError,
    InputError,
    RefusedRequestError,
    RunDirectoryError,
    ServerError,
    UnknownNameError,
)
from sae_auto_interp.protocols import Client, Provider
from sae_auto_interp.types import Message, Request, Response
from tests.support.batch_server import MODEL, BatchApi, Line, well_answered
from tests.support.llm_server import LlmServer, ask


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted")


def client_of(server: LlmServer, **settings: Any) -> OpenAIBatchClient:
    fast: dict[str, Any] = {"gather_seconds": 0.05, "poll_seconds": 0.02} | settings
    return OpenAIBatchClient(model=MODEL, base_url=server.base_url, **fast)


def question(text: str) -> Request:
    return Request((Message("user", text),))


QUESTIONS = [question(text) for text in ("one", "two", "three", "four", "five")]


def with_memory(server: LlmServer, memory: Path, *requests: Request) -> list[Response]:
    async def asked() -> list[Response]:
        client = client_of(server)
        try:
            await client.prepare(memory)
            return await asyncio.gather(*map(client.generate, requests))
        finally:
            await client.close()

    return asyncio.run(asked())


def test_what_is_asked_at_once_is_one_batch_and_each_gets_its_own_answer() -> None:
    api = BatchApi(polls=2)
    with LlmServer(api) as server:
        responses = ask(client_of(server), *QUESTIONS, QUESTIONS[0])
    assert [response.text for response in responses] == ["ONE", "TWO", "THREE", "FOUR", "FIVE", "ONE"]
    assert api.n_created == 1
    assert len(api.files["file-0"]) == 5, "equal requests are asked once"
    assert api.files["file-0"][0]["body"]["model"] == MODEL


def test_what_was_answered_is_kept_by_nobody() -> None:
    """A run has a million answers, with log-probabilities."""

    async def asked(client: OpenAIBatchClient) -> tuple[int, int, int]:
        await asyncio.gather(*map(client.generate, QUESTIONS))
        state = client._state  # pyright: ignore[reportPrivateUsage]
        left = len(state.futures), len(state.bodies), len(state.sent)
        await client.close()
        return left

    with LlmServer(BatchApi()) as server:
        assert asyncio.run(asked(client_of(server))) == (0, 0, 0)


def test_a_batch_is_no_larger_than_the_api_allows() -> None:
    api = BatchApi()
    with LlmServer(api) as server:
        ask(client_of(server, max_requests=2), *QUESTIONS)
    assert sorted(len(lines) for name, lines in api.files.items() if name.startswith("file-")) == [1, 2, 2]


def interrupted(server: LlmServer, memory: Path, until: Any) -> None:
    """A run that ends while its batch is on its way."""

    async def run() -> None:
        client = client_of(server)
        await client.prepare(memory)
        tasks = [asyncio.create_task(client.generate(each)) for each in QUESTIONS]
        while not until():  # noqa: ASYNC110 - what is waited for happens in the server's thread
            await asyncio.sleep(0.01)
        await client.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())


def test_after_a_restart_the_same_batch_is_collected(tmp_path: Path) -> None:
    api = BatchApi(polls=10**9)
    with LlmServer(api) as server:
        interrupted(server, tmp_path, lambda: api.batches and api.batches["batch-1"]["asked"] > 0)
        api.polls = 0
        responses = with_memory(server, tmp_path, *QUESTIONS, question("six"))
        assert [response.text for response in responses] == ["ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX"]
        assert [len(api.files[f"file-{i}"]) for i in ("0", "1")] == [5, 1], "only what is new is asked"
        again = with_memory(server, tmp_path, *QUESTIONS)
    assert [response.text for response in again] == ["ONE", "TWO", "THREE", "FOUR", "FIVE"]
    assert api.n_created == 2


def test_a_batch_that_was_made_and_not_noted_is_found_in_the_servers_list(tmp_path: Path) -> None:
    api = BatchApi(polls=10**9)
    with LlmServer(api) as server:
        interrupted(server, tmp_path, lambda: api.batches and api.batches["batch-1"]["asked"] > 0)
        (file,) = tmp_path.iterdir()
        lines = file.read_text().splitlines()
        assert json.loads(lines[1]) == {"file": "file-0", "batch": "batch-1"}
        file.write_text(lines[0] + "\n")  # killed in between
        api.polls = 0
        assert len(with_memory(server, tmp_path, *QUESTIONS)) == 5
        file.write_text(lines[0] + "\n" + lines[1][:9])  # killed while it was written
        assert len(with_memory(server, tmp_path, *QUESTIONS)) == 5
    assert api.n_created == 1


def failing(status: int, message: str) -> Any:
    body = {"error": {"message": message}}
    return lambda request: {"custom_id": request["custom_id"], "response": {"status_code": status, "body": body}}


@pytest.mark.parametrize(
    ("api", "error", "said"),
    [
        (BatchApi(line=failing(400, "no such thing")), RefusedRequestError, "in the batch, 400: no such thing"),
        (BatchApi(line=failing(500, "oops")), ServerError, "in the batch: oops"),
        (BatchApi(line=lambda request: None, ends="expired"), ServerError, "ended before the request was answered"),
        (BatchApi(ends="failed"), RefusedRequestError, "was refused: the file is not valid"),
    ],
)
def test_what_went_wrong_is_the_requests_own_error(api: BatchApi, error: type[ClientError], said: str) -> None:
    with LlmServer(api) as server, pytest.raises(error, match=said):
        ask(client_of(server), QUESTIONS[0])


def test_one_bad_line_costs_only_its_request_and_is_asked_again_in_another_batch() -> None:
    n_asked: dict[str, int] = {}

    def once_bad(request: Line) -> Line | None:
        text = request["body"]["messages"][-1]["content"]
        n_asked[text] = n_asked.get(text, 0) + 1
        return None if text == "two" and n_asked[text] == 1 else well_answered(request)

    with LlmServer(BatchApi(line=once_bad)) as server:
        responses = ask(RetryingClient(client_of(server), base_seconds=0.0), *QUESTIONS)
    assert [response.text for response in responses] == ["ONE", "TWO", "THREE", "FOUR", "FIVE"]
    assert n_asked == {"one": 1, "two": 2, "three": 1, "four": 1, "five": 1}


def test_another_model_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    async def prepare(client: OpenAIBatchClient) -> None:
        try:
            await client.prepare(tmp_path)
        finally:
            await client.close()

    with LlmServer(BatchApi()) as server, pytest.raises(UnknownNameError, match="gpt-other"):
        asyncio.run(prepare(OpenAIBatchClient(model="gpt-other", base_url=server.base_url)))


def test_a_damaged_memory_is_named(tmp_path: Path) -> None:
    memory = BatchFile(tmp_path / "batches.jsonl")
    memory.note_file("file-0", ["a", "b"])
    memory.note_batch("file-0", "batch-1")
    assert memory.load() == [Submitted("file-0", ("a", "b"), "batch-1")]
    memory.path.write_text("{\n" + memory.path.read_text())
    with pytest.raises(RunDirectoryError, match="line 1 is damaged"):
        memory.load()


def test_it_is_a_provider_and_impossible_settings_are_refused() -> None:
    client = OpenAIBatchClient(model=MODEL)
    assert isinstance(client, Client)
    assert isinstance(client, Provider)
    with pytest.raises(InputError, match="poll_seconds above 0"):
        OpenAIBatchClient(model=MODEL, poll_seconds=0.0)


def without_temperature(request: Line) -> Line:
    """As a reasoning model's API: a temperature is refused, everything else answered."""
    if "temperature" not in request["body"]:
        return well_answered(request)
    said = {"error": {"message": "Unsupported parameter: temperature is not supported", "param": "temperature"}}
    return {"custom_id": request["custom_id"], "response": {"status_code": 400, "body": said}}


def test_a_refused_parameter_is_left_out_in_another_batch_and_from_then_on(tmp_path: Path) -> None:
    api = BatchApi(line=without_temperature)
    with LlmServer(api) as server:
        answers = [response.text for response in with_memory(server, tmp_path, *QUESTIONS)]
        assert answers == ["ONE", "TWO", "THREE", "FOUR", "FIVE"]
        assert api.n_created == 2
        assert [r.text for r in with_memory(server, tmp_path, question("six"))] == ["SIX"]
        assert api.n_created == 3, "after a restart it is known"
        again = [response.text for response in with_memory(server, tmp_path, *QUESTIONS, question("six"))]
        assert again == [*answers, "SIX"]
    assert api.n_created == 3, "what was answered without the parameter is found by the name that it has with it"


def test_a_batch_that_was_refused_while_nobody_waited_is_asked_again_after_a_restart(tmp_path: Path) -> None:
    """Killed after it was submitted: the next process collects the refusals, and asks without what was refused."""
    api = BatchApi(line=without_temperature, polls=10**9)
    with LlmServer(api) as server:

        async def leave() -> None:
            client = client_of(server)
            await client.prepare(tmp_path)
            tasks = [asyncio.create_task(client.generate(q)) for q in QUESTIONS]
            async with asyncio.timeout(20):
                while not api.batches:  # noqa: ASYNC110 - it is filled by a thread of the server
                    await asyncio.sleep(0.01)
            await client.close()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run(leave())
        api.polls = 0
        answers = [response.text for response in with_memory(server, tmp_path, *QUESTIONS)]
    assert answers == ["ONE", "TWO", "THREE", "FOUR", "FIVE"]
    assert api.n_created == 2


def test_a_parameter_that_is_refused_for_its_value_is_a_failure_and_not_dropped() -> None:
    said = {"error": {"message": "max_tokens is too large: at most 4096", "param": "max_tokens"}}
    api = BatchApi(line=lambda r: {"custom_id": r["custom_id"], "response": {"status_code": 400, "body": said}})
    with LlmServer(api) as server, pytest.raises(RefusedRequestError, match="too large"):
        ask(client_of(server), QUESTIONS[0])
    assert api.n_created == 1


@pytest.mark.parametrize("said", ["Bad Request", "System role not supported"])
@pytest.mark.parametrize("status", [400, 422, 500])
def test_what_is_refused_in_any_words_is_left_out_in_another_batch(status: int, said: str) -> None:
    def without_system(request: Line) -> Line:
        if request["body"]["messages"][0]["role"] == "system":
            return {
                "custom_id": request["custom_id"],
                "response": {"status_code": status, "body": {"error": {"message": said}}},
            }
        return well_answered(request)

    requests = [Request((Message("system", "s"), *each.messages)) for each in QUESTIONS]
    api = BatchApi(line=without_system)
    with LlmServer(api) as server:
        client = client_of(server)

        async def ask_twice() -> list[str]:
            try:
                first = await asyncio.gather(*map(client.generate, requests[:3]))
                return [each.text for each in (*first, *await asyncio.gather(*map(client.generate, requests[3:])))]
            finally:
                await client.close()

        assert asyncio.run(ask_twice()) == [f"S\n\n{word}" for word in ("ONE", "TWO", "THREE", "FOUR", "FIVE")]
    assert api.n_created == 3, "one was refused; what comes later is asked without"


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"finish_reason": "error", "error": {"code": 503, "message": "no provider"}, "message": {}}]},
        {"choices": [{"finish_reason": "stop", "message": {"content": ""}}], "usage": {"completion_tokens": 0}},
    ],
)
def test_an_error_inside_an_answer_is_asked_again_in_another_batch(body: object) -> None:
    n_asked = iter(range(100))

    def once_broken(request: Line) -> Line:
        broken = {"custom_id": request["custom_id"], "response": {"status_code": 200, "body": body}}
        return broken if next(n_asked) == 0 else well_answered(request)

    api = BatchApi(line=once_broken)
    with LlmServer(api) as server:
        assert ask(RetryingClient(client_of(server), base_seconds=0.0), QUESTIONS[0])[0].text == "ONE"
    assert api.n_created == 2
