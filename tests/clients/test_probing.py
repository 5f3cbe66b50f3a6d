"""What a probe finds: at servers that do a thing, that refuse it, and that ignore it without a word."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.clients import OpenAIClient, RetryingClient
from sae_auto_interp.clients.http.capabilities import Capabilities, CapabilityFile
from sae_auto_interp.clients.http.probing import Prober
from sae_auto_interp.clients.wrappers.patience import Patience, patient_probes
from sae_auto_interp.errors import BrokenReplyError, RateLimitedError, RunDirectoryError
from sae_auto_interp.types import Message, Request, Response
from tests.support.embedded_reference import greedy, piece_of, rate
from tests.support.llm_server import LlmServer, Received, Reply, answer, chat, error, json_reply
from tests.support.rating_server import as_completions_of_old, as_vllm, completions

NOTHING = Capabilities(
    json_schema=False, choice_field=None, top_logprobs=0, prompt_logprobs=None, n=False, seed=False, max_tokens=False,
    list_schema=False, system_role=True,
)  # fmt: skip
Answers = Callable[[Received], Reply]


def prepared(script: Answers, memory: Path | None = None) -> tuple[Capabilities, list[Received]]:
    with LlmServer(lambda r: json_reply({"data": [{"id": "judge"}]}) if r.method == "GET" else script(r)) as server:
        client = OpenAIClient(base_url=server.base_url, model="judge")

        async def prepare() -> None:
            try:
                await client.prepare(memory)
            finally:
                await client.close()

        asyncio.run(prepare())
        assert client.capabilities is not None
        return client.capabilities, [received for received in server.requests if received.method == "POST"]


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryingClient, "_wait_seconds", lambda self, attempt, error: 0.0)


def ignoring(received: Received) -> Reply:
    """Knows neither fields nor bounds."""
    return answer("green " * 50) if received.path.endswith("chat/completions") else error(404)


def test_a_server_that_ignores_every_field_has_nothing() -> None:
    with_usage = json.loads(ignoring(Received("POST", "/v1/chat/completions", {}, b"{}")).body)
    with_usage["usage"]["completion_tokens"] = 50
    assert prepared(lambda received: json_reply(with_usage))[0] == NOTHING


def test_one_that_breaks_over_every_field_has_nothing_either() -> None:

    def broken(received: Received) -> Reply:
        plain = {"model", "messages", "temperature", "max_tokens"}
        is_plain = set(received.body) <= plain and received.body["messages"][0]["role"] == "user"
        return answer("one two three four") if is_plain else error(500)

    assert prepared(broken)[0] == replace(NOTHING, system_role=False, max_tokens=True)


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
    assert second._refusals.known == {"temperature"}
    assert "absent: json_schema, choice_field, top_logprobs" in said
    assert said.endswith("refuses: temperature")
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text())["model"] == "judge"


def test_a_damaged_memory_is_named(tmp_path: Path) -> None:
    file = CapabilityFile(tmp_path, "http://127.0.0.1:1/v1", "judge")
    file.save(NOTHING)
    assert file.load() == NOTHING
    written = file.path.read_text()
    unsigned = {name: value for name, value in json.loads(written).items() if name != "sha256"}
    for damaged in ('{"capabilities": {"n": true}}', written.replace('"n": false', '"n": true'), "[]", "[" * 100_000):
        file.path.write_text(damaged)
        with pytest.raises(RunDirectoryError, match="is damaged; delete it"):
            file.load()
    file.path.write_text(json.dumps(unsigned))
    assert file.load() == NOTHING, "as earlier versions wrote it"


def test_a_busy_server_is_asked_again_and_is_not_taken_for_an_unable_one() -> None:
    client = OpenAIClient(base_url="http://127.0.0.1:1/v1", model="judge")
    n_asked = 0

    async def post(path: str, body: Mapping[str, object]) -> Mapping[str, object]:
        nonlocal n_asked
        n_asked += 1
        raise RateLimitedError("slow down")

    async def probe() -> None:
        with patient_probes(Patience(attempts=4)):
            asked = client._patient(post)
        await Prober(asked, asked, "judge").probe()

    with pytest.raises(RateLimitedError):
        asyncio.run(probe())
    assert n_asked == 4


# --- what is used is asked for as it is used ---

LENGTHS_REFUSED = [
    "output_format.schema: For 'array' type, property 'maxItems' is not supported",
    "'minItems' values other than 0 or 1 are not supported",
    "The provided JSON schema contains features not supported by xgrammar",
    "array length keywords are not implemented",
    "Bad Request",
]


@pytest.mark.parametrize("status", [400, 422, 500, 501])
@pytest.mark.parametrize("words", LENGTHS_REFUSED)
def test_a_list_of_fixed_length_is_asked_for(words: str, status: int) -> None:
    def strict(received: Received) -> Reply:
        if b"minItems" in received.raw_body:
            return error(status, words)
        return answer('{"q": 71293}' if "response_format" in received.body else "green")

    found = prepared(strict)[0]
    assert (found.json_schema, found.list_schema, found.refused) == (True, False, ())


def test_one_that_holds_to_lists_is_not_asked_for_a_number_too() -> None:
    def bound(received: Received) -> Reply:
        return answer('{"q": [71293, 33587]}' if "response_format" in received.body else "green")

    found, requests = prepared(bound)
    assert (found.json_schema, found.list_schema) == (True, True)
    assert sum("response_format" in received.body for received in requests) == 1


@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_system_message_is_asked_for(status: int) -> None:
    def without_system_role(received: Received) -> Reply:
        messages = received.body.get("messages", [{"role": "user"}])
        return error(status, "System role not supported") if messages[0]["role"] == "system" else answer("green")

    assert prepared(without_system_role)[0] == replace(NOTHING, system_role=False, max_tokens=True)


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ("temperature", "invalid temperature: only 1 is allowed for this model"),
        ("temperature", "`temperature` may only be set to 1 when thinking is enabled"),
        ("temperature", "Bad Request"),
        ("max_tokens", "what you sent is beyond me"),
    ],
)
def test_the_first_question_teaches_which_parameter_is_refused(parameter: str, words: str) -> None:
    found = prepared(lambda r: error(400, words) if parameter in r.body else answer("green"))[0]
    assert found.refused == (parameter,)


def test_no_question_wants_fewer_than_sixteen_tokens() -> None:
    def wants_more(received: Received) -> Reply:
        said = "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got {} instead."
        n = received.body["max_tokens"]
        return error(400, said.format(n)) if n < 16 and "messages" in received.body else answer("green")

    assert prepared(wants_more)[0] == replace(NOTHING, max_tokens=True)


def test_where_only_the_plainest_question_is_answered_nothing_is_there() -> None:
    def plainest(received: Received) -> Reply:
        is_plain = len(received.body.get("messages", ())) == 1 and "green" in received.body["messages"][0]["content"]
        return answer("green") if is_plain and "n" not in received.body else error(400, "no")

    assert not prepared(plainest)[0].max_tokens


def test_what_an_earlier_version_did_not_ask_is_asked(tmp_path: Path) -> None:
    with LlmServer(
        lambda r: json_reply({"data": [{"id": "judge"}]}) if r.method == "GET" else answer("green")
    ) as server:
        file = CapabilityFile(tmp_path, server.base_url, "judge")
        older = replace(NOTHING, json_schema=True, seed=True, refused=("temperature",))
        file.save(older)
        content = json.loads(file.path.read_text())
        del content["sha256"]  # files of earlier versions have none
        for name in ("list_schema", "system_role"):
            del content["capabilities"][name]
        file.path.write_text(json.dumps(content))
        client = OpenAIClient(base_url=server.base_url, model="judge")

        async def prepare() -> None:
            await client.prepare(tmp_path)
            await client.close()

        asyncio.run(prepare())
        asked = [received.body for received in server.requests if received.method == "POST"]
    assert client.capabilities == file.load() == replace(older, list_schema=False, system_role=True)
    assert len(asked) == 3, "two about schemas, one about the system role"
    assert not any("temperature" in body for body in asked)
    assert asdict(older)["seed"]


# --- not an endpoint ---

PAGE = Reply(200, b"<html><title>Welcome to nginx!</title></html>", {"Content-Type": "text/html"})


def test_a_page_in_place_of_the_chat_names_the_address_and_the_question() -> None:
    with pytest.raises(BrokenReplyError) as caught:
        prepared(lambda received: PAGE)
    said = str(caught.value)
    assert "/v1/chat/completions is not JSON: <html>" in said
    assert "asked to find out what the endpoint can do; is base_url http://127.0.0.1:" in said
    assert said.endswith("/v1 right?)")


@pytest.mark.parametrize("fault", [Reply(200, b'{"choices": [{"mess'), error(503), error(429), PAGE, Reply(200, b"")])
def test_a_fault_now_and_then_is_outlived(fault: Reply) -> None:
    n_asked = Counter[bytes]()

    def now_and_then(received: Received) -> Reply:
        n_asked[received.raw_body] += 1
        return fault if n_asked[received.raw_body] in (1, 3, 4) else answer("green")

    assert prepared(now_and_then)[0].max_tokens


def test_the_list_of_models_is_asked_for_as_patiently() -> None:
    faults = iter([error(503), Reply(429, b""), error(502)])

    def script(received: Received) -> Reply:
        return (next(faults, None) if received.method == "GET" else None) or (
            json_reply({"data": [{"id": "judge"}]}) if received.method == "GET" else answer("green")
        )

    with LlmServer(script) as server:
        client = OpenAIClient(base_url=server.base_url, model="judge")

        async def prepare() -> str:
            try:
                return await client.prepare()
            finally:
                await client.close()

        assert "has: " in asyncio.run(prepare())
