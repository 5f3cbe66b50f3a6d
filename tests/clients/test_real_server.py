"""OpenAIClient against llama.cpp, serving the embedded language model with its real weights over HTTP.

The parity tests say that the server runs the very model that ships in the package, so that what is measured
through it elsewhere is about that model.
"""

import asyncio
import json
import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

from sae_auto_interp.clients import LimitedClient, OpenAIClient, RetryingClient
from sae_auto_interp.errors import RefusedRequestError, UnknownNameError
from sae_auto_interp.types import Message, Request, Sampling
from tests.support.embedded_gguf import embedded_language_model, serve_gguf, write_gguf
from tests.support.llm_server import ask

MODEL = "embedded"
PROMPT = "import os\n\n\nclass Reader:\n    def __init__(self, path):\n"
YES_OR_NO = {"enum": ["yes", "no"]}
FITS = {
    "type": "object",
    "properties": {"fits": {"type": "boolean"}},
    "required": ["fits"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    file = tmp_path_factory.mktemp("gguf") / "embedded.gguf"
    write_gguf(embedded_language_model(), file, MODEL)
    with serve_gguf(file, MODEL) as address:
        yield address


@pytest.fixture
def client(root: str) -> OpenAIClient:
    return OpenAIClient(base_url=f"{root}/v1", model=MODEL, api_key_env="NOT_SET_ANYWHERE", timeout_seconds=30.0)


def post(url: str, body: object) -> Any:
    return httpx2.post(url, json=body, timeout=30).raise_for_status().json()


def request(text: str, max_tokens: int = 8, schema: str | None = None, top_logprobs: int = 0) -> Request:
    return Request((Message("user", text),), Sampling(max_tokens=max_tokens), schema, top_logprobs)


@cache
def reference_model() -> GPT2LMHeadModel:
    return GPT2LMHeadModel.from_pretrained(embedded_language_model()).eval()


def reference_tokens(text: str) -> list[int]:
    return Tokenizer.from_file(str(embedded_language_model() / "tokenizer.json")).encode(text).ids


def reference_logprobs(ids: list[int]) -> np.ndarray:
    """Log-probabilities of the next token after `ids`, from the Hugging Face model."""
    with torch.inference_mode():
        return torch.log_softmax(reference_model()(torch.tensor([ids])).logits[0, -1], dim=-1).numpy()


# --- the server runs the embedded model ---


@pytest.mark.parametrize("text", [PROMPT, 'raise ValueError(f"{x!r} is 1234")', "é ü «it's»  \t\n\n", ""])
def test_the_server_tokenizes_as_the_model_does(root: str, text: str) -> None:
    assert post(f"{root}/tokenize", {"content": text})["tokens"] == reference_tokens(text)


def test_the_servers_greedy_tokens_and_logprobs_are_those_of_the_model(root: str) -> None:
    ids = reference_tokens(PROMPT)
    reply = post(f"{root}/completion", {"prompt": PROMPT, "n_predict": 6, "temperature": 0, "n_probs": 10})
    assert reply["tokens_evaluated"] + reply["timings"]["cache_n"] >= len(ids)
    for step in reply["completion_probabilities"]:
        expected = reference_logprobs(ids)
        assert step["id"] == int(expected.argmax())
        served = {entry["id"]: entry["logprob"] for entry in step["top_logprobs"]}
        # llama.cpp looks GELU up in a table of half precision and keeps keys and values in it.
        np.testing.assert_allclose(list(served.values()), expected[list(served)], atol=0.02)
        assert set(served) >= set(np.argsort(expected)[::-1][:3].tolist())
        ids.append(step["id"])


# --- through the client ---


def test_a_real_answer_has_text_usage_and_a_finish_reason(client: OpenAIClient) -> None:
    (response,) = ask(client, request(PROMPT, max_tokens=5))
    assert response.text
    assert response.finish_reason == "length"
    assert response.model == MODEL
    assert response.usage.completion_tokens == 5
    assert response.usage.prompt_tokens > 5


def test_real_logprobs_are_log_probabilities_of_the_model(client: OpenAIClient) -> None:
    (response,) = ask(client, request(PROMPT, max_tokens=4, top_logprobs=5))
    assert response.logprobs is not None
    assert len(response.logprobs) == 4
    assert "".join(token.token for token in response.logprobs) == response.text
    for token in response.logprobs:
        assert token.logprob == max(token.alternatives.values()), "at temperature 0 the likeliest token is taken"
        assert sum(math.exp(logprob) for logprob in token.alternatives.values()) <= 1 + 1e-6
    expected = reference_logprobs(reference_tokens(PROMPT + "\n"))  # the chat template adds the line break
    assert response.logprobs[0].logprob == pytest.approx(float(expected.max()), abs=0.02)


@pytest.mark.parametrize(
    ("schema", "possible"), [(YES_OR_NO, ["yes", "no"]), (FITS, [{"fits": True}, {"fits": False}])]
)
def test_a_schema_binds_the_answer(client: OpenAIClient, schema: object, possible: list[object]) -> None:
    # Generous: a schema allows white space, which this model likes, and the server trims it off afterwards.
    (response,) = ask(client, request("fits", max_tokens=120, schema=json.dumps(schema)))
    assert json.loads(response.text) in possible
    assert response.finish_reason == "stop"


def test_many_requests_through_all_the_wrappers_each_get_their_own_answer(client: OpenAIClient) -> None:
    wrapped = RetryingClient(LimitedClient(client, max_concurrency=4))
    responses = ask(wrapped, *[request(PROMPT, max_tokens=n) for n in range(1, 13)])
    assert [response.usage.completion_tokens for response in responses] == list(range(1, 13))
    longest = responses[-1].text
    assert all(longest.startswith(response.text) for response in responses)


def test_a_prompt_that_does_not_fit_is_refused_in_the_servers_words(client: OpenAIClient) -> None:
    with pytest.raises(RefusedRequestError, match="exceeds the available context size"):
        ask(client, request("def f(" * 200))


def test_check_finds_the_only_model_and_refuses_another(root: str, client: OpenAIClient) -> None:
    unnamed = OpenAIClient(base_url=f"{root}/v1", api_key_env="NOT_SET_ANYWHERE")
    mistyped = OpenAIClient(base_url=f"{root}/v1", model="embeded", api_key_env="NOT_SET_ANYWHERE")

    async def check_all() -> None:
        for each in (unnamed, client):
            await each.check()
            await each.close()
        with pytest.raises(UnknownNameError, match="did you mean 'embedded'"):
            await mistyped.check()
        await mistyped.close()

    asyncio.run(check_all())
    assert unnamed.model == MODEL
