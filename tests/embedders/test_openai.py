"""An embeddings endpoint on a real socket, with what real servers get wrong."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sae_auto_interp.embedders import OpenAIEmbedder
from sae_auto_interp.errors import (
    BrokenReplyError,
    ConfigError,
    InputError,
    MalformedReplyError,
    NoAccessError,
    RateLimitedError,
    RefusedRequestError,
    ServerError,
    TimeoutExceededError,
    UnreachableError,
)
from tests.support.llm_server import (
    LlmServer,
    Received,
    Reply,
    connection_reset,
    error,
    json_reply,
    rate_limited,
    stalled,
)

TEXTS = ["a cat", "two dogs", "", "λ and \n"]


def vector_of(text: str) -> list[float]:
    return [float(len(text)), 1.0, float(sum(map(ord, text)) % 7)]


def embeddings(received: Received) -> Reply:
    """Not normalised, and in the wrong order: only `index` says which is which."""
    data = [{"index": i, "embedding": vector_of(text)} for i, text in enumerate(received.body["input"])]
    return json_reply({"object": "list", "data": data[::-1], "model": "e", "usage": {"prompt_tokens": 3}})


async def no_sleep(seconds: float) -> None:
    del seconds


def embed(server: LlmServer, texts: Sequence[str] = TEXTS, **settings: Any) -> np.ndarray:
    async def once() -> np.ndarray:
        embedder = OpenAIEmbedder(base_url=server.base_url, model="e", sleep=no_sleep, **settings)
        try:
            return await embedder.embed(texts)
        finally:
            await embedder.close()

    return asyncio.run(once())


def expected(texts: Sequence[str] = TEXTS) -> np.ndarray:
    vectors = np.array([vector_of(text) for text in texts])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_each_text_gets_its_vector_of_length_one() -> None:
    with LlmServer(embeddings) as server:
        found = embed(server)
        (request,) = server.requests
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(), rtol=1e-6)
    assert (request.method, request.path) == ("POST", "/v1/embeddings")
    assert request.body == {"model": "e", "input": TEXTS, "encoding_format": "float"}


@pytest.mark.parametrize("n_per_request", [1, 3, 4, 100])
def test_the_number_of_texts_per_request_changes_nothing(n_per_request: int) -> None:
    texts = [f"text {i}" for i in range(10)]
    with LlmServer(embeddings) as server:
        found = embed(server, texts, n_per_request=n_per_request)
        assert len(server.requests) == -(-10 // n_per_request)
    np.testing.assert_allclose(found, expected(texts), rtol=1e-6)


def test_no_text_needs_no_request() -> None:
    with LlmServer([]) as server:
        assert embed(server, []).shape == (0, 0)
        assert server.requests == []


@pytest.mark.parametrize("fault", [rate_limited("0"), error(503), connection_reset()])
def test_what_passes_with_time_is_asked_again(fault: Reply) -> None:
    faults = [fault, fault]
    with LlmServer(lambda received: faults.pop() if faults else embeddings(received)) as server:
        np.testing.assert_allclose(embed(server), expected(), rtol=1e-6)


@pytest.mark.parametrize(
    ("reply", "wanted", "n_requests"),
    [
        (rate_limited(), RateLimitedError, 3),
        (error(500), ServerError, 3),
        (error(401), NoAccessError, 1),
        (error(404), RefusedRequestError, 1),
        (json_reply({"data": []}), MalformedReplyError, 1),
        (json_reply([]), MalformedReplyError, 1),
        (Reply(body=b"<html>"), BrokenReplyError, 3),
    ],
)
def test_anything_else_is_an_error_of_its_kind(reply: Reply, wanted: type[Exception], n_requests: int) -> None:
    with LlmServer(lambda received: reply) as server:
        with pytest.raises(wanted):
            embed(server, attempts=3)
        assert len(server.requests) == n_requests


@pytest.mark.parametrize(
    "data",
    [
        [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": "AAAA"}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [0.0]}],
        [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [None]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": ["x"]}],
        [{"index": 0, "embedding": [1.0]}],
    ],
)
def test_vectors_that_are_none_are_refused(data: object) -> None:
    with LlmServer([json_reply({"data": data})]) as server, pytest.raises(MalformedReplyError):
        embed(server, ["a", "b"])


def test_vectors_of_two_lengths_in_two_requests_are_refused() -> None:
    replies = [json_reply({"data": [{"index": 0, "embedding": [1.0] * n}]}) for n in (2, 3)]
    with LlmServer(replies) as server, pytest.raises(MalformedReplyError, match="different lengths"):
        embed(server, ["a", "b"], n_per_request=1, max_concurrency=1)


def test_no_answer_in_time_and_no_server_at_all() -> None:
    with LlmServer([stalled()]) as server, pytest.raises(TimeoutExceededError):
        embed(server, attempts=1, timeout_seconds=0.2)
    with pytest.raises(UnreachableError):
        embed(server, attempts=2)


def test_the_key_is_sent_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret-key-1")
    with LlmServer([error(401, "bad key secret-key-1")]) as server:
        with pytest.raises(NoAccessError) as caught:
            embed(server, api_key_env="MY_KEY")
        assert server.requests[0].headers["Authorization"] == "Bearer secret-key-1"
    assert "secret-key-1" not in str(caught.value)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="base_url"):
        OpenAIEmbedder(base_url="localhost:8000", model="e")
    with pytest.raises(ConfigError, match="n_per_request=0"):
        OpenAIEmbedder(base_url="http://127.0.0.1:1/v1", model="e", n_per_request=0)
    with pytest.raises(ConfigError, match="model is empty"):
        OpenAIEmbedder(base_url="http://127.0.0.1:1/v1", model="")
