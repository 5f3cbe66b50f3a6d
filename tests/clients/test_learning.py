"""What a server does not take is learnt from an answer without it, whatever its words; no request is lost meanwhile."""

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.clients import OpenAIClient, RetryingClient
from sae_auto_interp.clients.http.capabilities import Capabilities, CapabilityFile
from sae_auto_interp.clients.http.refused_parameters import FEW, SYSTEM, schema_kind, without_system
from sae_auto_interp.errors import ClientError, RefusedRequestError
from sae_auto_interp.judges._replies import choice_schema, verdicts_schema
from sae_auto_interp.scorers._writing import texts_schema
from sae_auto_interp.types import Message, Request, Sampling
from tests.support.llm_server import QUESTION, LlmServer, Received, Reply, answer, ask, error, json_reply
from tests.support.picky_llm import has_lengths, has_schema, has_system

ABLE = Capabilities(True, None, 5, None, True, True, True, list_schema=True, system_role=True)
VERDICTS = Request(QUESTION.messages, Sampling(seed=3), schema=verdicts_schema(5), top_logprobs=2)
WORDS = [
    "output_format.schema: For 'array' type, property 'maxItems' is not supported",
    "'minItems' values other than 0 or 1 are not supported",
    "The provided JSON schema contains features not supported by xgrammar",
    "array length keywords are not implemented",
    "Bad Request",
    "",
]
SYSTEM_WORDS = [
    "System role not supported",
    "Conversation roles must alternate user/assistant/user/assistant/...",
    "'messages[0].role' does not support 'system' with this model",
    "Internal Server Error",
    "",
]


def client_of(server: LlmServer) -> OpenAIClient:
    return OpenAIClient(base_url=server.base_url, model="judge")


def refusing(is_refused: Callable[[Mapping[str, Any]], bool], status: int = 400, words: str = "no") -> Any:
    return lambda received: error(status, words) if is_refused(received.body) else answer("[1]")


@pytest.mark.parametrize("status", [400, 422, 500])
@pytest.mark.parametrize("words", WORDS)
def test_a_refused_schema_is_left_out_from_then_on(words: str, status: int) -> None:
    with LlmServer(refusing(has_lengths, status, words)) as server:
        client = client_of(server)
        assert [ask(client, VERDICTS)[0].text for _ in range(3)] == ["[1]"] * 3
        sent = [has_schema(received.body) for received in server.requests]
        assert sent == [True, False, False, False]
        ask(client, Request(QUESTION.messages, schema=verdicts_schema(12)))
        assert not has_schema(server.requests[-1].body), "lists of another length are of the same kind"
        ask(client, Request(QUESTION.messages, schema=choice_schema(5)))
        assert has_schema(server.requests[-1].body), "another kind was not refused"
        assert all(has_system(received.body) for received in server.requests)


@pytest.mark.parametrize("status", [400, 422, 500])
@pytest.mark.parametrize("words", SYSTEM_WORDS)
def test_a_refused_system_role_is_text_of_the_user_from_then_on(words: str, status: int) -> None:
    with LlmServer(refusing(has_system, status, words)) as server:
        client = client_of(server)
        assert [ask(client)[0].text for _ in range(3)] == ["[1]"] * 3
        assert [has_system(received.body) for received in server.requests] == [True, False, False, False]
        assert server.requests[-1].body["messages"] == [{"role": "user", "content": "You judge.\n\nDoes it fit?"}]


@pytest.mark.parametrize("words", ["Bad Request", "schema and system are beyond me", "seed temperature"])
def test_of_several_causes_each_is_found_and_nothing_else_is_given_up(words: str) -> None:
    def is_refused(body: Mapping[str, Any]) -> bool:
        return has_system(body) or has_schema(body) or "seed" in body

    with LlmServer(refusing(is_refused, 400, words)) as server:
        client = client_of(server)
        for _ in range(4):
            ask(client, VERDICTS)
        n_asked = len(server.requests)
        ask(client, VERDICTS)
        assert len(server.requests) == n_asked + 1, "by now all is known"
        assert client._refusals.known == {SYSTEM, "seed", kind_sent(VERDICTS)}
        assert set(server.requests[-1].body) == {
            "model", "messages", "temperature", "max_tokens", "logprobs", "top_logprobs",
        }  # fmt: skip
        assert n_asked <= 4 + 12


def kind_sent(request: Request) -> str:
    answered = {"name": "answer", "strict": True, "schema": json.loads(request.schema or "")}
    return schema_kind({"type": "json_schema", "json_schema": answered})


@pytest.mark.parametrize("parameter", ["temperature", "seed", "max_tokens", "logprobs"])
def test_a_refused_parameter_is_found_without_a_word(parameter: str) -> None:
    with LlmServer(refusing(lambda body: parameter in body)) as server:
        client = client_of(server)
        ask(client, VERDICTS)
        assert client._refusals.known == {parameter}
        ask(client, VERDICTS)
        body = server.requests[-1].body
    assert parameter not in body
    assert has_schema(body)
    assert has_system(body)
    assert ("max_completion_tokens" in body) == (parameter == "max_tokens")


def test_too_small_a_bound_becomes_the_smallest_that_is_taken() -> None:
    words = "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got 1 instead."
    with LlmServer(refusing(lambda body: body["max_tokens"] < 16, 400, words)) as server:
        client = client_of(server)
        for _ in range(2):
            ask(client, Request(QUESTION.messages, Sampling(max_tokens=1)))
        assert client._refusals.known == {FEW}
        assert server.requests[-1].body["max_tokens"] == 16
        ask(client, Request(QUESTION.messages, Sampling(max_tokens=40)))
        assert server.requests[-1].body["max_tokens"] == 40


@pytest.mark.parametrize("is_refused", [has_lengths, has_system])
def test_a_hundred_refused_at_once_are_all_answered(is_refused: Callable[[Mapping[str, Any]], bool]) -> None:
    everyone = threading.Barrier(100, timeout=20)
    first = threading.Semaphore(100)

    def together(received: Received) -> Reply:
        if first.acquire(blocking=False):
            everyone.wait()
        return refusing(is_refused)(received)

    requests = [
        Request((*QUESTION.messages[:1], Message("user", str(n))), schema=verdicts_schema(5)) for n in range(100)
    ]
    with LlmServer(together) as server:
        client = client_of(server)
        assert [response.text for response in ask(client, *requests)] == ["[1]"] * 100
        assert len(server.requests) <= 100 * 4
        assert len(client._refusals.known) == 1
        assert not is_refused(server.requests[-1].body)


def test_what_is_refused_for_itself_stays_refused_and_teaches_nothing() -> None:
    """A content filter: of a hundred requests some are refused, with whatever they are sent."""

    def is_filtered(body: Mapping[str, Any]) -> bool:
        return "bomb" in body["messages"][-1]["content"]

    requests = [Request((*QUESTION.messages[:1], Message("user", "bomb" if n % 4 == 0 else f"{n}"))) for n in range(40)]
    with LlmServer(refusing(is_filtered, 400, "The response was filtered: request req-17")) as server:
        client = client_of(server)
        for request in requests:
            if is_filtered({"messages": [{"content": request.messages[-1].content}]}):
                with pytest.raises(RefusedRequestError, match="was filtered"):
                    ask(client, request)
            else:
                ask(client, request)
        assert not client._refusals.known
        assert all(has_system(received.body) for received in server.requests[-8:])
        assert len(server.requests) < 40 + 5 * 6, "after some in vain, nothing is tried for these words"


def test_one_refusal_that_passes_without_a_schema_costs_nobody_else_theirs() -> None:
    def is_filtered(body: Mapping[str, Any]) -> bool:
        return "odd" in body["messages"][-1]["content"] and has_schema(body)

    odd = Request((Message("user", "odd"),), schema=verdicts_schema(2))
    plain = Request((Message("user", "plain"),), schema=verdicts_schema(2))
    with LlmServer(refusing(is_filtered)) as server:
        client = client_of(server)
        assert [ask(client, each)[0].text for each in (plain, odd, plain, odd, plain)] == ["[1]"] * 5
        assert has_schema(server.requests[-1].body)
        assert not client._refusals.known
        for _ in range(3):
            ask(client, odd)
        assert client._refusals.known, "three in a row are no exception"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "who are you?"),
        (403, "not you"),
        (404, "no such model"),
        (413, "too large"),
        (429, "slow down"),
        (503, "busy"),
        (400, "request (666 tokens) exceeds the available context size (128 tokens)"),
        (400, "This model's maximum context length is 128 tokens, you asked for 700"),
        (400, "Your credit balance is too low to access the API"),
    ],
)
def test_the_account_the_rate_and_the_length_are_about_no_part(status: int, words: str) -> None:
    with LlmServer(lambda received: error(status, words)) as server:
        with pytest.raises(ClientError):
            ask(client_of(server), VERDICTS)
        assert len(server.requests) == 1


def test_a_bad_moment_of_a_server_that_took_everything_before_teaches_nothing() -> None:
    replies = iter([answer("yes"), error(500), error(500), answer("yes")])
    with LlmServer(lambda received: next(replies)) as server:
        client = RetryingClient(client_of(server), base_seconds=0.0)
        ask(client, VERDICTS)
        assert ask(client, VERDICTS)[0].text == "yes"
        assert [has_schema(received.body) for received in server.requests] == [True] * 4


def test_a_request_that_breaks_again_and_again_is_asked_without_its_schema_at_last() -> None:
    long = Request(QUESTION.messages, schema=verdicts_schema(50))
    with LlmServer(refusing(lambda body: '"maxItems": 50' in json.dumps(body), 500)) as server:
        client = RetryingClient(client_of(server), base_seconds=0.0)
        ask(client, VERDICTS)
        assert ask(client, long)[0].text == "[1]"
        assert [has_schema(received.body) for received in server.requests] == [True] * 4 + [False]


def test_an_error_inside_a_200_is_a_refusal_too() -> None:
    def upstream(received: Received) -> Reply:
        said = {"error": {"code": 400, "message": "Provider returned error"}}
        return json_reply(said) if has_lengths(received.body) else answer("[1]")

    with LlmServer(upstream) as server:
        client = client_of(server)
        assert [ask(client, VERDICTS)[0].text for _ in range(2)] == ["[1]"] * 2
        assert len(server.requests) == 3


def test_what_is_learnt_is_remembered_with_the_run(tmp_path: Path) -> None:
    with LlmServer(lambda r: json_reply({"data": [{"id": "judge"}]}) if r.method == "GET" else script(r)) as server:
        file = CapabilityFile(tmp_path, server.base_url, "judge")
        file.save(ABLE)

        def asked() -> list[Received]:
            n_before = len(server.requests)

            async def prepare_and_ask() -> None:
                client = client_of(server)
                try:
                    await client.prepare(tmp_path)
                    await client.generate(VERDICTS)
                finally:
                    await client.close()

            asyncio.run(prepare_and_ask())
            return server.requests[n_before + 1 :]

        assert len(asked()) == 2
        known = file.load()
        assert known is not None
        assert known.refused == (kind_sent(VERDICTS),)
        assert "refuses: answers held to this kind of JSON schema (" in known.summary()
        (only,) = asked()
        assert not has_schema(only.body)


def script(received: Received) -> Reply:
    return refusing(has_lengths)(received)


def test_kinds_of_schemas_are_told_apart_by_their_keywords() -> None:
    kinds = [schema_kind(json.loads(schema)) for schema in (verdicts_schema(3), texts_schema(3), choice_schema(3))]
    assert len(set(kinds)) == 3
    assert schema_kind(json.loads(verdicts_schema(30))) == kinds[0]
    assert "verdicts" not in kinds[0]


def test_the_system_text_stands_in_front_of_the_users_first() -> None:
    turns = [("system", "S"), ("user", "one"), ("assistant", "two"), ("user", "three"), ("user", "four")]
    assert without_system([{"role": role, "content": content} for role, content in turns]) == [
        {"role": "user", "content": "S\n\none"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three\n\nfour"},
    ]
    assert without_system([{"role": "system", "content": "S"}]) == [{"role": "user", "content": "S"}]
    plain = [{"role": "user", "content": "one"}]
    assert without_system(plain) == plain
