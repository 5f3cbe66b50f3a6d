"""AnthropicClient over real sockets, against a server that checks the form of every request as the real one does."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from sae_auto_interp.clients import AnthropicClient, RetryingClient
from sae_auto_interp.errors import (
    ClientError,
    InputError,
    MalformedReplyError,
    NoAccessError,
    RateLimitedError,
    RefusedRequestError,
    ServerError,
    UnknownNameError,
)
from sae_auto_interp.protocols import Client, Provider
from sae_auto_interp.types import Message, Request, Response, Sampling, Usage
from tests.support.anthropic_server import KEY, anthropic, message, problem, text
from tests.support.llm_server import QUESTION, LlmServer, Received, Reply, ask

SCHEMA = json.dumps({"type": "object", "properties": {"verdicts": {"type": "array"}}, "required": ["verdicts"]})


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


def client_of(server: LlmServer, model: str = "claude-test-1") -> AnthropicClient:
    return AnthropicClient(base_url=server.root, model=model, timeout_seconds=10.0)


def asked(answer: Mapping[str, Any], request: Request = QUESTION) -> tuple[Response, Any]:
    with LlmServer(anthropic(lambda body: answer)) as server:
        (response,) = ask(client_of(server), request)
        return response, server.requests[0].body


def test_a_request_has_the_form_that_the_api_wants() -> None:
    turns = (
        Message("system", "Be brief."),
        Message("user", "One."),
        Message("user", "Two."),
        Message("assistant", "Three."),
        Message("user", "Four."),
    )
    response, body = asked(message(text("yes")), Request(turns, Sampling(1.5, 33, seed=4), top_logprobs=5))
    assert body == {
        "model": "claude-test-1", "max_tokens": 33, "temperature": 1.0, "system": "Be brief.",
        "messages": [
            {"role": "user", "content": "One.\n\nTwo."},
            {"role": "assistant", "content": "Three."},
            {"role": "user", "content": "Four."},
        ],
    }  # fmt: skip
    assert response == Response("yes", Usage(16, 7, 1), "stop", "claude-test-1", None)


def test_a_schema_becomes_a_tool_that_must_be_called() -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "answer", "input": {"verdicts": [1, 0]}}
    response, body = asked(message(call, stop_reason="tool_use"), Request(QUESTION.messages, schema=SCHEMA))
    assert body["tools"][0]["input_schema"] == json.loads(SCHEMA)
    assert body["tool_choice"] == {"type": "tool", "name": "answer"}
    assert (json.loads(response.text), response.finish_reason) == ({"verdicts": [1, 0]}, "stop")


def test_a_schema_that_no_tool_can_have_is_left_to_the_prompt() -> None:
    _, body = asked(message(text("yes")), Request(QUESTION.messages, schema='{"enum": ["yes", "no"]}'))
    assert "tools" not in body


def test_thinking_is_left_out_and_texts_are_joined() -> None:
    thinking = {"type": "thinking", "thinking": "no, or is it?", "signature": "x"}
    assert asked(message(thinking, text("y"), text("es")))[0].text == "yes"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (message(stop_reason="max_tokens"), "raise max_tokens"),
        (message(stop_reason="end_turn"), "the answer has no text"),
        (message(text("I cannot"), stop_reason="refusal"), "refused to answer: I cannot"),
        ({"type": "message"}, "the answer has no text"),
    ],
)
def test_what_is_no_answer_is_an_error(answer: Mapping[str, Any], said: str) -> None:
    with pytest.raises(MalformedReplyError, match=said):
        asked(answer)


def test_a_cut_answer_says_so() -> None:
    assert asked(message(text("y"), stop_reason="max_tokens"))[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (problem(529, "overloaded_error", "Overloaded"), ServerError),
        (problem(500, "api_error", "Internal server error"), ServerError),
        (problem(429, "rate_limit_error", "slow down", **{"retry-after": "7"}), RateLimitedError),
        (problem(403, "permission_error", f"not with {KEY}"), RefusedRequestError),
        (problem(413, "request_too_large", "too large"), RefusedRequestError),
    ],
)
def test_errors_of_the_api(reply: Reply, error: type[ClientError]) -> None:
    with LlmServer([reply]) as server, pytest.raises(error) as caught:
        ask(client_of(server))
    assert KEY not in str(caught.value)
    if isinstance(caught.value, RateLimitedError):
        assert caught.value.retry_after_seconds == 7


def test_an_overloaded_server_is_asked_again() -> None:
    replies = iter([problem(529, "overloaded_error", "Overloaded")] * 2)
    well = anthropic(lambda body: message(text("yes")))
    with LlmServer(lambda received: next(replies, None) or well(received)) as server:
        assert ask(RetryingClient(client_of(server), base_seconds=0.0))[0].text == "yes"


def test_a_model_without_temperature_is_asked_without_it() -> None:
    def picky(received: Received) -> Reply:
        if "temperature" in received.body:
            return problem(400, "invalid_request_error", "`temperature` is deprecated for this model.")
        return anthropic(lambda body: message(text("yes")))(received)

    with LlmServer(picky) as server:
        client = client_of(server)
        assert [ask(client)[0].text, ask(client)[0].text] == ["yes", "yes"]
        assert len(server.requests) == 3


def test_messages_that_the_api_would_refuse_are_not_sent() -> None:
    with pytest.raises(RefusedRequestError, match="do not begin with the user's"):
        asked(message(text("yes")), Request((Message("assistant", "Hello."),)))


def prepared(model: str, script: Callable[[Received], Reply]) -> str:
    async def prepare() -> str:
        client = client_of(server, model)
        try:
            return await client.prepare()
        finally:
            await client.close()

    with LlmServer(script) as server:
        return asyncio.run(prepare())


def test_prepare_finds_the_model_or_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    api = anthropic(lambda body: message(text("yes")))
    assert "json_schema (by a tool)" in prepared("claude-test-2", api)
    with pytest.raises(UnknownNameError, match="did you mean 'claude-test-1'"):
        prepared("claude-test-11", api)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "another")
    with pytest.raises(NoAccessError, match="invalid x-api-key"):
        prepared("claude-test-1", api)


def test_without_a_key_it_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(InputError, match="set the environment variable ANTHROPIC_API_KEY"):
        AnthropicClient(model="claude-test-1")


def test_it_is_a_provider_and_no_repr_shows_the_key() -> None:
    client = AnthropicClient(model="claude-test-1")
    assert isinstance(client, Client)
    assert isinstance(client, Provider)
    assert KEY not in repr(client) + repr(vars(client))


@pytest.mark.parametrize("status", [400, 422, 500])
@pytest.mark.parametrize("field", ["tools", "system", "temperature"])
def test_what_is_refused_in_any_words_is_left_out_from_then_on(field: str, status: int) -> None:
    def picky(received: Received) -> Reply:
        if field in received.body:
            return problem(status, "invalid_request_error", "Bad Request")
        return anthropic(lambda body: message(text("yes")))(received)

    request = Request(QUESTION.messages, schema=SCHEMA)
    with LlmServer(picky) as server:
        client = client_of(server)
        assert [ask(client, request)[0].text for _ in range(3)] == ["yes"] * 3
        sent = [received.body for received in server.requests]
    assert field not in sent[-1]
    assert field not in sent[-2]
    kept = {"tools", "system", "temperature"} - {field}
    assert kept <= set(sent[-1])
    if field == "system":
        assert sent[-1]["messages"] == [{"role": "user", "content": "You judge.\n\nDoes it fit?"}]


@pytest.mark.parametrize(
    "fault",
    [
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        {**message(), "usage": {"input_tokens": 9, "output_tokens": 0}},
    ],
)
def test_an_error_inside_a_200_is_asked_again(fault: Mapping[str, Any]) -> None:
    answers = iter([fault, message(text("yes"))])
    with LlmServer(anthropic(lambda body: next(answers))) as server:
        assert ask(RetryingClient(client_of(server), base_seconds=0.0))[0].text == "yes"


@pytest.mark.parametrize("content", ["yes", [{"text": "yes"}], [{"type": "server_tool", "text": "no"}, text("yes")]])
def test_text_is_read_from_content_of_any_form(content: object) -> None:
    assert asked({**message(), "content": content})[0].text == "yes"
