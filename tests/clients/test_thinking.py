"""Thinking is left out of texts and of log-probabilities; texts about thinking are not."""

import pytest

from sae_auto_interp.clients import OpenAIClient
from sae_auto_interp.clients.http.thinking import thinking_length
from sae_auto_interp.errors import MalformedReplyError
from sae_auto_interp.types import Response
from tests.support.llm_server import LlmServer, answer, ask, chat


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<think>a [1]</think>[0]", "[0]"),
        ("\n<think>\na\n</think>\n\n[0]", "[0]"),
        ("so a follows\n</think>\n\n[0]", "[0]"),
        ("<thinking>a</thinking> b", "b"),
        ("fires on </think> and <think> tokens", "fires on </think> and <think> tokens"),
        ("The tag <think>a</think>", "The tag <think>a</think>"),
        ("<think>never ends", ""),
        ("", ""),
    ],
)
def test_what_is_left(text: str, left: str) -> None:
    assert text[thinking_length(text) :] == left


def asked(text: str, logprobs: object = None, finish_reason: str = "stop") -> Response:
    with LlmServer([answer(text, finish_reason, logprobs)]) as server:
        return ask(OpenAIClient(base_url=server.base_url, model="judge"))[0]


def listed(*pieces: str) -> dict[str, object]:
    return {"content": [{"token": piece, "logprob": -float(i), "top_logprobs": []} for i, piece in enumerate(pieces)]}


def test_the_logprobs_that_are_left_are_those_of_the_text() -> None:
    pieces = ("<think>", "hm", "</think>", "\n\n[", "1", "]")
    response = asked("".join(pieces), listed(*pieces))
    assert response.text == "[1]"
    assert response.logprobs is not None
    assert [(token.token, token.logprob) for token in response.logprobs] == [("[", -3.0), ("1", -4.0), ("]", -5.0)]


def test_a_server_that_rates_the_answer_alone() -> None:
    response = asked("<think>hm</think>[1]", listed("[", "1", "]"))
    assert response.logprobs is not None
    assert "".join(token.token for token in response.logprobs) == response.text == "[1]"


def test_what_is_all_thinking_is_no_answer() -> None:
    with pytest.raises(MalformedReplyError, match="all thinking and no text; all of max_tokens was spent"):
        asked("<think>well, on the one hand", finish_reason="length")


def test_thinking_in_a_field_of_its_own_is_not_read() -> None:
    message = {"role": "assistant", "content": "yes", "reasoning_content": "no, or is it?", "reasoning": "no"}
    with LlmServer([chat({"message": message, "finish_reason": "stop"})]) as server:
        assert ask(OpenAIClient(base_url=server.base_url, model="judge"))[0].text == "yes"
