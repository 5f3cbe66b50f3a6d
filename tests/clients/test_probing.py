"""What a probe finds: at servers that do a thing, that refuse it, and that ignore it without a word."""

import asyncio
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.clients import OpenAIClient
from sae_auto_interp.clients.http.capabilities import Capabilities, CapabilityFile
from sae_auto_interp.clients.http.probing import Prober
from sae_auto_interp.errors import RateLimitedError, RunDirectoryError
from sae_auto_interp.types import Message, Request, Response
from tests.support.embedded_reference import greedy, piece_of, rate
from tests.support.llm_server import LlmServer, Received, Reply, answer, chat, error, json_reply
from tests.support.rating_server import as_completions_of_old, as_vllm, completions

NOTHING = Capabilities(
    json_schema=False, choice_field=None, top_logprobs=0, prompt_logprobs=None, n=False, seed=False, max_tokens=False
)
Answers = Callable[[Received], Reply]


def prepared(script: Answers, memory: Path | None = None) -> tuple[Capabilities, list[Received]]:
    with LlmServer(lambda r: json_reply({"data": [{"id": "judge"}]}) if r.method == "GET" else script(r)) as server:
        client = OpenAIClient(base_url=server.base_url, model="judge")

        async def prepare() -> None:
            await client.prepare(memory)
            await client.close()

        asyncio.run(prepare())
        assert client.capabilities is not None
        return client.capabilities, [received for received in server.requests if received.method == "POST"]


def ignoring(received: Received) -> Reply:
    """Knows neither fields nor bounds."""
    return answer("green " * 50) if received.path.endswith("chat/completions") else error(404)


def test_a_server_that_ignores_every_field_has_nothing() -> None:
    with_usage = json.loads(ignoring(Received("POST", "/v1/chat/completions", {}, b"{}")).body)
    with_usage["usage"]["completion_tokens"] = 50
    assert prepared(lambda received: json_reply(with_usage))[0] == NOTHING


def test_one_that_breaks_over_every_field_has_nothing_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sae_auto_interp.clients.http.probing._WAITS_SECONDS", (0.0, 0.0))

    def broken(received: Received) -> Reply:
        plain = {"model", "messages", "temperature", "max_tokens"}
        return answer("one two three four") if set(received.body) <= plain else error(500)

    assert prepared(broken)[0] == NOTHING


def listed(*alternatives: Mapping[str, float]) -> dict[str, Any]:
    def entry(values: Mapping[str, float]) -> dict[str, Any]:
        top = [{"token": token, "logprob": logprob} for token, logprob in values.items()]
        return top[0] | {"top_logprobs": top}

    return {"content": [entry(values) for values in alternatives]}


@pytest.mark.parametrize(
    ("logprobs", "n_alternatives"),
    [
        (listed({"gre": -0.1, "red": -3.0}, {"en": -0.01, "y": -9999.0}), 2),
        (listed({"gre": 0.9, "red": 0.05}, {"en": 0.99, "y": 0.01}), 0),  # probabilities
        (listed({"gre": -0.1, "red": -0.1}, {"en": -0.1, "y": -0.1}), 0),  # all alike, and more than 1 in all
        (listed({"gre": -5.0, "red": -5.0}, {"en": -5.0, "y": -5.0}), 0),  # a constant
        (listed({"no": -0.1, "red": -3.0}), 0),  # of another text
        ({"content": [{"token": "green"}]}, 0),
        ({"content": []}, 0),
        (None, 0),
    ],
)
def test_only_log_probabilities_of_the_text_are_believed(logprobs: Any, n_alternatives: int) -> None:
    assert prepared(lambda received: answer("green", logprobs=logprobs))[0].top_logprobs == n_alternatives


def test_a_bound_on_the_alternatives_is_found() -> None:
    def five_at_most(received: Received) -> Reply:
        wanted = received.body.get("top_logprobs", 0)
        if wanted > 5:
            return error(400, "Invalid value for 'top_logprobs': must be at most 5")
        return answer("green", logprobs=listed({"green": -0.1, **{str(i): -4.0 - i for i in range(wanted - 1)}}))

    assert prepared(five_at_most)[0].top_logprobs == 5


@pytest.mark.parametrize("field", ["structured_outputs", "guided_choice"])
def test_a_guided_choice_is_found_by_the_field_that_binds(field: str) -> None:
    def choosing(received: Received) -> Reply:
        value = received.body.get(field)
        choices = value["choice"] if isinstance(value, dict) else value
        return answer(choices[-1] if choices else "green")

    assert prepared(choosing)[0].choice_field == field


def test_thinking_gets_room_before_a_schema_counts_as_ignored() -> None:
    def thinking(received: Received) -> Reply:
        if received.body["max_tokens"] < 1000:
            return chat({"message": {"content": None}, "finish_reason": "length"})
        return answer('<think>green?</think>{"q": 71293}' if "response_format" in received.body else "green")

    assert prepared(thinking)[0].json_schema


def test_a_seed_counts_when_it_repeats_and_another_does_not() -> None:
    def with_seed(text_of: Callable[[int, int], str]) -> Capabilities:
        n_asked = iter(range(1000))
        return prepared(lambda r: answer(text_of(r.body.get("seed", 0), next(n_asked))))[0]

    assert with_seed(lambda seed, n: f"letters {seed}").seed
    assert not with_seed(lambda seed, n: "always the same").seed
    assert not with_seed(lambda seed, n: f"letters {n}").seed


# --- prompt log-probabilities, of the embedded model itself ---


def made_up(text: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Right in form, and nothing that the model says."""
    n = len(rate(text).ids)
    entries = [{str(i): {"logprob": -1.0 - i / 7, "decoded_token": piece_of(k)}} for i, k in enumerate(rate(text).ids)]
    entries[-1] |= {"9": {"logprob": -0.01, "decoded_token": "x"}}
    return {"prompt_logprobs": [None, *entries[1:n]]}


def of_what_was_generated(text: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Takes `logprobs` and not `echo`, as many do."""
    following = piece_of(greedy(text, 1)[0])
    return {"logprobs": {"tokens": [following], "token_logprobs": [-0.1], "top_logprobs": [{following: -0.1}]}}


@pytest.mark.parametrize(
    ("rating", "found"),
    [
        (as_vllm, "prompt_logprobs"),
        (as_completions_of_old, "echo"),
        (made_up, None),
        (of_what_was_generated, None),
        (lambda text, body: {}, None),
    ],
)
def test_prompt_logprobs_are_proved_by_what_the_model_writes_itself(rating: Any, found: str | None) -> None:
    assert prepared(completions(rating))[0].prompt_logprobs == found


# --- what becomes of it ---


def sent_with(capabilities: Capabilities, request: Request) -> dict[str, Any]:
    async def ask() -> Response:
        client._set("capabilities", capabilities)
        try:
            return await client.generate(request)
        finally:
            await client.close()

    with LlmServer([answer("yes")]) as server:
        client = OpenAIClient(base_url=server.base_url, model="judge")
        asyncio.run(ask())
        return server.requests[0].body


def test_only_what_the_endpoint_does_is_asked_for() -> None:
    request = Request((Message("user", "?"),), schema='{"enum": ["a", "b"]}', top_logprobs=20)
    assert set(sent_with(NOTHING, request)) == {"model", "messages", "temperature", "max_tokens"}
    able = Capabilities(True, None, 5, None, True, True, True)
    body = sent_with(able, request)
    assert body["top_logprobs"] == 5
    assert body["response_format"]["json_schema"]["schema"] == {"enum": ["a", "b"]}
    choosing = Capabilities(False, "structured_outputs", 0, None, True, True, True)
    assert sent_with(choosing, request)["structured_outputs"] == {"choice": ["a", "b"]}
    assert "structured_outputs" not in sent_with(choosing, Request(request.messages, schema='{"type": "object"}'))


def test_it_is_asked_once_and_remembered_with_what_is_refused(tmp_path: Path) -> None:
    def picky(received: Received) -> Reply:
        if "temperature" in received.body:
            return error(400, "Unsupported parameter: temperature")
        return answer("green")

    with LlmServer(lambda r: json_reply({"data": [{"id": "judge"}]}) if r.method == "GET" else picky(r)) as server:

        async def prepare() -> tuple[OpenAIClient, str]:
            client = OpenAIClient(base_url=server.base_url, model="judge")
            said = await client.prepare(tmp_path)
            await client.close()
            return client, said

        first, said = asyncio.run(prepare())
        n_asked = len(server.requests)
        second, _ = asyncio.run(prepare())
        assert len(server.requests) == n_asked + 1, "the list of models alone"
    assert first.capabilities == second.capabilities
    assert second._refused == {"temperature"}
    assert "absent: json_schema, choice_field, top_logprobs" in said
    assert said.endswith("refuses: temperature")
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text())["model"] == "judge"


def test_a_damaged_memory_is_named(tmp_path: Path) -> None:
    file = CapabilityFile(tmp_path, "http://127.0.0.1:1/v1", "judge")
    file.save(NOTHING)
    assert file.load() == NOTHING
    file.path.write_text('{"capabilities": {"n": true}}')
    with pytest.raises(RunDirectoryError, match="is damaged; delete it"):
        file.load()


def test_a_busy_server_is_asked_again_and_is_not_taken_for_an_unable_one() -> None:
    waits: list[float] = []

    async def post(path: str, body: Mapping[str, object]) -> Mapping[str, object]:
        raise RateLimitedError("slow down")

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    with pytest.raises(RateLimitedError):
        asyncio.run(Prober(post, "judge", sleep).probe())
    assert len(waits) == 2
    assert all(math.isfinite(seconds) for seconds in waits)
