"""What OpenAIClient makes of answers of many forms: content in parts, odd log-probabilities, errors inside a 200."""

import json
import math

import pytest

from sae_auto_interp.errors import (
    ClientError,
    NoAccessError,
    RateLimitedError,
    RefusedRequestError,
    ServerError,
)
from sae_auto_interp.types import Request
from tests.clients.test_openai import ask_scripted, client_of
from tests.support.llm_server import QUESTION, LlmServer, Reply, answer, ask, chat, json_reply


@pytest.mark.parametrize(
    "parts",
    [
        [{"type": "text", "text": '{"verdicts": [0, 1]}'}],
        [{"type": "reasoning", "text": "hm"}, {"type": "output_text", "text": '{"verdicts": [0, 1]}'}],
        [
            {"type": "thinking", "thinking": [{"type": "text", "text": "[1, 1]"}]},
            {"type": "text", "text": '{"verdicts": [0, 1]}'},
        ],
        [{"type": "text", "text": '{"verdicts":'}, {"type": "image_url"}, {"type": "text", "text": " [0, 1]}"}],
        ['{"verdicts": ', {"text": {"value": "[0, 1]}"}}, None, 7],
        {"type": "text", "text": '{"verdicts": [0, 1]}'},
    ],
)
def test_content_in_parts_is_its_text(parts: object) -> None:
    text = ask_scripted([chat({"message": {"content": parts}, "finish_reason": "stop"})]).text
    assert json.loads(text) == {"verdicts": [0, 1]}


NULLS = [
    {"token": "1", "logprob": None, "top_logprobs": [{"token": "1", "logprob": -0.1}, {"token": "0", "logprob": None}]},
    {"token": "1", "logprob": None},
    {"token": "1", "logprob": "-Infinity", "top_logprobs": None},
]


@pytest.mark.parametrize("entry", NULLS)
def test_a_null_log_probability_spoils_no_answer(entry: dict[str, object]) -> None:
    response = ask_scripted([answer("1!", logprobs={"content": [entry, {"token": "!", "logprob": -0.1}]})])
    assert response.text == "1!"
    assert response.logprobs is not None
    assert [token.token for token in response.logprobs] == ["1", "!"]
    assert not math.isfinite(response.logprobs[0].logprob)


@pytest.mark.parametrize("number", [1e308, 10**400, 3, math.inf, True])
def test_what_is_no_log_probability_is_kept_as_none(number: float) -> None:
    top = [{"token": "1", "logprob": number}]
    response = ask_scripted([answer("1", logprobs={"content": [{"token": "1", "logprob": -1, "top_logprobs": top}]})])
    assert response.logprobs is not None
    assert math.isnan(response.logprobs[0].alternatives["1"])


def test_only_the_tokens_of_the_text_are_kept_and_others_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    def rated(*tokens: str) -> dict[str, object]:
        return {"content": [{"token": token, "logprob": -0.1} for token in tokens]}

    request = Request(QUESTION.messages, top_logprobs=3)
    replies = [
        answer("yes", logprobs=rated("hm", "</think>\n", "y", "es", "<|eot|>")),
        *[answer("yes", logprobs=rated("no"))] * 3,
    ]
    with LlmServer(replies) as server:
        client = client_of(server)
        found = [ask(client, request)[0].logprobs for _ in replies]
    assert [token.token for token in found[0] or ()] == ["y", "es"]
    assert found[1:] == [None] * 3
    assert [record.message for record in caplog.records] == [
        "judge gives log-probabilities of other tokens than those of its answer: such answers have no confidences"
    ]


def of_choice(content: str | None, **more: object) -> dict[str, object]:
    return {"choices": [{"message": {"content": content}, **more}]}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (of_choice("", finish_reason="error", error={"code": 503, "message": "no provider"}), ServerError),
        (of_choice("", finish_reason="stop") | {"usage": {"prompt_tokens": 9, "completion_tokens": 0}}, ServerError),
        (of_choice(None, finish_reason="stop") | {"usage": {"completion_tokens": 0}}, ServerError),
        (of_choice("half of", finish_reason="error"), ServerError),
        ({"choices": [{"message": {"content": "", "error": {"code": "529", "message": "busy"}}}]}, ServerError),
        (of_choice("", error={"type": "rate_limit_error"}), RateLimitedError),
        ({"error": {"code": 502, "message": "upstream"}}, ServerError),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, ServerError),
        ({"error": {"message": "who?", "code": 401}}, NoAccessError),
        ({"error": {"message": "no such form", "code": 415}}, RefusedRequestError),
        ({"error": "no such thing", "code": 404}, RefusedRequestError),
    ],
)  # fmt: skip
def test_an_error_inside_a_200_is_what_its_code_says(body: object, kind: type[ClientError]) -> None:
    with pytest.raises(kind) as caught:
        ask_scripted(lambda _: json_reply(body))
    assert type(caught.value) is kind


def test_an_event_with_an_error_is_one_too() -> None:
    stream = b'event: error\ndata: {"error": {"code": 503, "message": "no provider"}}\n\ndata: [DONE]\n'
    with pytest.raises(ServerError, match="503: no provider"):
        ask_scripted(lambda _: Reply(200, stream, {"Content-Type": "text/event-stream"}))


@pytest.mark.parametrize("nothing", [None, {}, "", {"message": None, "code": None}])
def test_an_error_that_says_nothing_leaves_the_answer_alone(nothing: object) -> None:
    choice = {"message": {"content": "yes", "error": nothing}, "error": nothing, "finish_reason": "stop"}
    assert ask_scripted([json_reply({"error": nothing, "choices": [choice]})]).text == "yes"
