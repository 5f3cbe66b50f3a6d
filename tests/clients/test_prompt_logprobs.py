"""What servers say of the tokens of a text, read back: the tokens are the text, the numbers those of the model."""

import asyncio
import math
from typing import Any

import numpy as np
import pytest

from sae_auto_interp.clients import OpenAIClient
from sae_auto_interp.clients.http.capabilities import PromptLogprobsBy
from sae_auto_interp.clients.http.prompt_logprobs import decode_reading, place_tokens
from sae_auto_interp.errors import MalformedReplyError, RefusedRequestError
from sae_auto_interp.protocols import PromptReader
from sae_auto_interp.types import PromptLogprobs, PromptRequest
from tests.support.embedded_reference import rate
from tests.support.llm_server import LlmServer, json_reply
from tests.support.rating_server import as_completions_of_old, as_vllm, completions

TEXT = "import os\n\nclass Reader:\n    pass"


def read(rating: Any, request: PromptRequest) -> PromptLogprobs:
    answers = completions(rating)
    with LlmServer(lambda r: json_reply({"data": [{"id": "judge"}]}) if r.method == "GET" else answers(r)) as server:
        client = OpenAIClient(base_url=server.base_url, model="judge")
        assert isinstance(client, PromptReader)

        async def prepared() -> PromptLogprobs:
            try:
                await client.prepare()
                return await client.read(request)
            finally:
                await client.close()

        return asyncio.run(prepared())


@pytest.mark.parametrize("rating", [as_vllm, as_completions_of_old])
def test_what_is_read_through_a_server_is_what_the_model_says(rating: Any) -> None:
    result = read(rating, PromptRequest(TEXT, top_logprobs=3))
    rated = rate(TEXT)
    assert "".join(token.token for token in result.tokens) == TEXT
    assert math.isnan(result.tokens[0].logprob)
    expected = [rated.of_token(i) for i in range(1, len(rated.ids))]
    np.testing.assert_allclose([token.logprob for token in result.tokens[1:]], expected)
    for i, token in enumerate(result.tokens[1:], 1):
        assert set(rated.likeliest(i, 3).values()) <= set(token.alternatives.values())
    assert result.usage.prompt_tokens == 20


def test_a_server_that_was_not_seen_to_do_it_is_not_asked() -> None:
    with pytest.raises(RefusedRequestError, match="does not do that"):
        read(lambda text, body: {}, PromptRequest(TEXT))
    with pytest.raises(RefusedRequestError, match=r"await prepare\(\) first"):
        asyncio.run(OpenAIClient(base_url="http://127.0.0.1:1/v1", model="judge").read(PromptRequest(TEXT)))


def vllm_entries(*pieces: str) -> list[dict[str, Any]]:
    return [{str(i): {"logprob": -1.0 - i, "decoded_token": piece}} for i, piece in enumerate(pieces)]


@pytest.mark.parametrize(
    ("text", "rest", "tokens"),
    [
        ("a b c", [" b", " c"], ["a", " b", " c"]),  # the server does not name its first token
        ("a b c", ["a", " b", " c"], ["a", " b", " c"]),  # that is one for the beginning of the text
        ("aa a", ["a", " a"], ["a", "a", " a"]),
        ("é!", ["�", "�", "!"], ["é", "", "!"]),
    ],
)
def test_the_first_token_of_vllm_is_what_the_others_leave(text: str, rest: list[str], tokens: list[str]) -> None:
    reply = {"choices": [{"prompt_logprobs": [None, *vllm_entries(*rest)]}]}
    result = decode_reading(reply, PromptRequest(text), "judge", "prompt_logprobs", str)
    assert [token.token for token in result.tokens] == tokens
    assert math.isnan(result.tokens[0].logprob)
    assert not any(math.isnan(token.logprob) for token in result.tokens[1:])


@pytest.mark.parametrize("beginning", [[], ["<s>"]])
@pytest.mark.parametrize("generated", [[], ["!"]])
def test_echo_is_cut_to_the_text_on_both_sides(beginning: list[str], generated: list[str]) -> None:
    pieces = [*beginning, "a", " b", *generated]
    logprobs = {"tokens": pieces, "token_logprobs": [None, *(-float(i) for i in range(1, len(pieces)))]}
    result = decode_reading({"choices": [{"logprobs": logprobs}]}, PromptRequest("a b"), "judge", "echo", str)
    assert [token.token for token in result.tokens] == ["a", " b"]
    assert result.tokens[1].logprob == -1.0 - len(beginning)


@pytest.mark.parametrize(
    ("by", "choice"),
    [
        ("echo", {"logprobs": {"tokens": ["x"], "token_logprobs": [-1.0]}}),
        ("echo", {"logprobs": {"tokens": ["a", " b"], "token_logprobs": [-1.0]}}),
        ("echo", {}),
        ("prompt_logprobs", {"prompt_logprobs": []}),
        ("prompt_logprobs", {"prompt_logprobs": [None, {}]}),
    ],
)
def test_what_is_no_rating_of_the_whole_text_is_an_error(by: PromptLogprobsBy, choice: dict[str, Any]) -> None:
    with pytest.raises(MalformedReplyError, match="does not rate the tokens of the text"):
        decode_reading({"choices": [choice]}, PromptRequest("a b"), "judge", by, str)


@pytest.mark.parametrize(
    ("text", "pieces", "covered"),
    [
        ("a😀b", ["a", "�", "�", "�", "b"], ["a", "😀", "", "", "b"]),
        ("é", ["�", "�"], ["é", ""]),
        ("ab", ["a"], None),
        ("ab", ["a", "c"], None),
        ("", [], []),
    ],
)
def test_tokens_cover_the_text_or_nothing(text: str, pieces: list[str], covered: list[str] | None) -> None:
    assert place_tokens(text, pieces) == covered
