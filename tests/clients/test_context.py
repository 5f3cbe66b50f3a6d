"""How long a prompt may be: as servers tell it, and as their refusals say it."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.clients import OpenAIClient
from sae_auto_interp.clients.http.capabilities import CapabilityFile
from sae_auto_interp.clients.http.context_length import root_of, told_context, too_long
from sae_auto_interp.clients.http.reply import Reply as Answer
from sae_auto_interp.errors import PromptTooLongError, RefusedRequestError, UnreachableError
from sae_auto_interp.prompting.token_count import certainly_exceeds, fits, request_tokens
from sae_auto_interp.types import Message, Request, Response, Sampling
from tests.support.llm_server import LlmServer, Received, Reply, answer, error, json_reply

REFUSALS: list[tuple[str, int | None, int | None]] = [
    ("request (666 tokens) exceeds the available context size (128 tokens)", 128, 666),
    ("the request exceeds the available context size. try increasing the context size", None, None),
    ("This model's maximum context length is 128 tokens. However, your request has 666 input tokens.", 128, 666),
    (
        "This model's maximum context length is 4096 tokens. However, you requested 4200 tokens (3700 in the messages, "
        "500 in the completion). Please reduce the length of the messages or completion.",
        4096,
        3700,
    ),
    (
        "'max_tokens' or 'max_completion_tokens' is too large: 500. This model's maximum context length is 512 tokens "
        "and your request has 200 input tokens (500 > 512 - 200).",
        512,
        200,
    ),
    ("This endpoint's maximum context length is 131,072 tokens. However, you requested 200,000 tokens", 131072, 200000),
    ("prompt is too long: 210000 tokens > 200000 maximum", 200000, 210000),
    ("Input validation error: `inputs` must have less than 1024 tokens. Given: 3000", 1024, 3000),
    ("Requested tokens (600) exceed context window of 512", 512, 600),
    ("The decoder prompt (length 666) is longer than the maximum model length of 128.", 128, 666),
    ("the model is loaded with context length of only 128 tokens, and the prompt has too many", 128, None),
    ("input is too long", None, None),
]
OTHERS = [
    "max_tokens is too large: 500. This model supports at most 400 completion tokens",
    "Unsupported parameter: max_tokens",
    "invalid schema: too many properties",
    "Invalid 'context': unknown field",
    "the prompt violates a policy",
    "",
]


@pytest.mark.parametrize(("said", "context", "prompt"), REFUSALS)
def test_a_refusal_for_length_is_known_by_its_words_and_numbers(
    said: str, context: int | None, prompt: int | None
) -> None:
    for body in ({"error": {"message": said}}, {"error": said}, {"message": said}, {"detail": said}):
        found = too_long(said, json.dumps(body).encode())
        assert found is not None
        assert (found.context_tokens, found.prompt_tokens) == (context, prompt)
    assert too_long(said, said.encode()) is not None


@pytest.mark.parametrize("said", OTHERS)
def test_other_refusals_are_not_taken_for_it(said: str) -> None:
    assert too_long(said, json.dumps({"error": {"message": said}}).encode()) is None


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"[" * 100_000, b"null", b'{"error": {"n_ctx": true, "message": 5}}', b"\xff"]
)
def test_a_body_of_any_kind_is_no_error(body: bytes) -> None:
    assert too_long("x", body) is None


def test_numbers_in_fields_are_read_first() -> None:
    fields = {"type": "exceed_context_size_error", "n_prompt_tokens": 666, "n_ctx": 128, "message": "no numbers 1 2"}
    found = too_long("x", json.dumps({"error": fields}).encode())
    assert found is not None
    assert (found.context_tokens, found.prompt_tokens) == (128, 666)
    openai = {"code": "context_length_exceeded", "message": "sorry"}
    assert too_long("x", json.dumps({"error": openai}).encode()) is not None


def told(pages: dict[str, Any], model: str = "m", root: str = "") -> int | None:
    asked: list[str] = []

    async def send(method: str, path: str, body: bytes | None) -> Answer:
        asked.append(path)
        page = pages.get(path)
        if isinstance(page, Exception):
            raise page
        content = json.dumps(page).encode() if not isinstance(page, bytes) else page
        return Answer(path, 200 if path in pages else 404, "", {}, content)

    found = asyncio.run(told_context(send, model, root))
    assert len(asked) <= 5
    return found


@pytest.mark.parametrize(
    ("pages", "context"),
    [
        ({"models": {"data": [{"id": "m", "max_model_len": 2048}]}}, 2048),
        ({"models": {"data": [{"id": "x", "max_model_len": 9}, {"id": "m", "context_length": 8192}]}}, 8192),
        ({"models": {"data": [{"id": "x", "max_model_len": 4096}, {"id": "y"}]}}, None),
        ({"/props": {"default_generation_settings": {"n_ctx": 128}}}, 128),
        ({"models": {"data": [{"id": "m", "meta": {"n_ctx_train": 8192}}]}, "/props": {"n_ctx": 512}}, 512),
        ({"models": {"data": [{"id": "m", "meta": {"n_ctx_train": 8192}}]}}, 8192),
        ({"/api/ps": {"models": [{"name": "m:latest", "context_length": 4096}]}}, 4096),
        (
            {"/api/show": {"parameters": 'stop "x"\nnum_ctx    1024', "model_info": {"llama.context_length": 9999}}},
            1024,
        ),
        ({"/api/show": {"model_info": {"general.architecture": "llama", "llama.context_length": 2048}}}, 2048),
        ({"/api/v0/models": {"data": [{"id": "m", "loaded_context_length": 4096, "max_context_length": 9999}]}}, 4096),
        ({"/props": UnreachableError("gone"), "/api/ps": b"<html>", "/api/show": {"model_info": []}}, None),
        ({"/props": {"default_generation_settings": {"n_ctx": "many"}}}, None),
        ({"/props": {"default_generation_settings": {"n_ctx": -1}}}, None),
    ],
)
def test_servers_tell_their_context_in_their_own_ways(pages: dict[str, Any], context: int | None) -> None:
    assert told(pages) == context


def test_addresses_beside_the_api_are_below_its_root() -> None:
    assert [root_of(path) for path in ("/v1", "/v1/", "/llama/v1", "/api", "", "/openai/v12")] == [
        "", "", "/llama", "/api", "", "/openai",
    ]  # fmt: skip
    assert told({"/llama/props": {"default_generation_settings": {"n_ctx": 128}}}, root="/llama") == 128


def question(n_words: int) -> Request:
    return Request((Message("user", "dogs " * n_words),), Sampling(max_tokens=10))


def asked_of(
    script: Callable[[Received], Reply], *requests: Request, memory: Path | None = None
) -> tuple[list[Response | Exception], list[Received], OpenAIClient]:
    async def ask() -> list[Response | Exception]:
        answers: list[Response | Exception] = []
        if memory is not None:
            await client.prepare(memory)
        for request in requests:
            try:
                answers.append(await client.generate(request))
            except RefusedRequestError as refusal:
                answers.append(refusal)
        await client.close()
        return answers

    with LlmServer(script) as server:
        client = OpenAIClient(base_url=server.base_url, model="m")
        return asyncio.run(ask()), server.requests, client


def limited(received: Received) -> Reply:
    """128 tokens, a word each."""
    if received.method == "GET":
        return error(404)
    n = len(" ".join(m["content"] for m in received.body["messages"]).split())
    return (
        answer("yes")
        if n <= 128
        else error(400, f"request ({n} tokens) exceeds the available context size (128 tokens)")
    )


def test_a_context_is_learnt_from_a_refusal_and_what_cannot_fit_is_not_sent_again() -> None:
    answers, received, _ = asked_of(limited, question(100), question(900), question(800), question(100), question(140))
    kinds = [type(found).__name__ for found in answers]
    assert kinds == ["Response", "PromptTooLongError", "PromptTooLongError", "Response", "PromptTooLongError"]
    assert len(received) == 4, "of 800 words it is certain beforehand; of 140 the server is asked"
    assert [e.context_tokens for e in answers if isinstance(e, PromptTooLongError)] == [128, 128, 128]
    assert "holds 128" in str(answers[2])


def test_a_told_context_is_kept_with_what_the_endpoint_can_do(tmp_path: Path) -> None:
    def script(received: Received) -> Reply:
        if received.path == "/props":
            return json_reply({"default_generation_settings": {"n_ctx": 128}})
        return json_reply({"data": [{"id": "m"}]}) if received.path.endswith("models") else answer("green")

    answers, received, client = asked_of(script, question(50), question(140), memory=tmp_path)
    assert client.capabilities is not None
    assert client.capabilities.context_tokens == 128
    assert "context_tokens (128)" in client.capabilities.summary()
    assert isinstance(answers[0], Response)
    assert isinstance(answers[1], PromptTooLongError)
    assert not any("dogs " * 140 in str(r.raw_body) for r in received)
    (file,) = tmp_path.iterdir()
    content = json.loads(file.read_text())
    assert content["capabilities"]["context_tokens"] == 128
    del content["capabilities"]["context_tokens"], content["sha256"]  # as earlier versions wrote it
    file.write_text(json.dumps(content))
    earlier = CapabilityFile(tmp_path, content["base_url"], "m").load()
    assert earlier is not None
    assert earlier.context_tokens is None


def test_what_fits_leaves_room_for_an_answer() -> None:
    request = Request((Message("user", "a b c"),), Sampling(max_tokens=50))
    n = request_tokens(request)
    assert fits(request, n + 50)
    assert not fits(request, n + 49)
    assert certainly_exceeds(request, n // 2)
    assert not certainly_exceeds(request, n)
