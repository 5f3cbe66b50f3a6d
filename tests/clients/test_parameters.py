"""A parameter is dropped on the server's own word, and on nothing less."""

import json
import logging

import pytest

from sae_auto_interp.clients import OpenAIClient
from sae_auto_interp.clients.http.refused_parameters import refused_parameter, without_refused
from sae_auto_interp.errors import RefusedRequestError
from sae_auto_interp.types import Request, Sampling
from tests.support.llm_server import QUESTION, LlmServer, Received, Reply, answer, ask, error, json_reply

SENT = {"model", "messages", "temperature", "max_tokens", "seed", "logprobs", "top_logprobs", "response_format"}
WORDS_OF_SERVERS = [
    (
        {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
                    "instead.", "param": "max_tokens", "code": "unsupported_parameter"},
        "max_tokens",
    ),
    (
        {"message": "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) is "
                    "supported.", "param": "temperature", "code": "unsupported_value"},
        "temperature",
    ),
    ({"message": "unknown field 'x': unrecognized request argument supplied: seed"}, "seed"),
    ({"message": "This model does not support logprobs.", "param": None}, "logprobs"),
    ({"message": "`temperature` is deprecated for this model."}, "temperature"),
    ({"message": "Invalid 'max_tokens': 9000 is too large: not supported", "param": "max_tokens"}, None),
    ({"message": "Invalid schema for response_format 'answer': 'maxItems' is not permitted."}, None),
    ({"message": "Invalid value for 'top_logprobs': must be less than or equal to 5."}, None),
    ({"message": "This model's context length is 128 tokens; max_tokens was 500."}, None),
    ({"message": "tools are not supported"}, None),
]  # fmt: skip


@pytest.mark.parametrize(("said", "parameter"), WORDS_OF_SERVERS)
def test_the_words_of_servers(said: dict[str, object], parameter: str | None) -> None:
    assert refused_parameter(400, json.dumps({"error": said}), SENT) == parameter


def test_words_of_frameworks() -> None:
    mistral = {
        "detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]
    }
    assert refused_parameter(422, json.dumps(mistral), SENT) == "seed"
    assert refused_parameter(422, '{"detail":"Unexpected fields in the request: {\'seed\'}"}', SENT) == "seed"
    assert refused_parameter(500, json.dumps(mistral), SENT) is None
    assert refused_parameter(422, json.dumps(mistral), {"model"}) is None, "what was not sent cannot be left out"


def test_max_tokens_goes_by_its_newer_name_before_it_is_left_out() -> None:
    body = {"model": "m", "max_tokens": 9}
    assert without_refused(body, {"max_tokens"}) == {"model": "m", "max_completion_tokens": 9}
    assert without_refused(body, {"max_tokens", "max_completion_tokens"}) == {"model": "m"}


def test_top_logprobs_go_with_logprobs() -> None:
    assert without_refused({"logprobs": True, "top_logprobs": 5, "n": 1}, {"logprobs"}) == {"n": 1}


def reasoning_model(received: Received) -> Reply:
    """Takes neither temperature nor max_tokens, like OpenAI's reasoning models."""
    for parameter in ("temperature", "max_tokens"):
        if parameter in received.body:
            said = {"message": f"Unsupported parameter: '{parameter}'", "param": parameter}
            return json_reply({"error": said}, 400)
    return answer("yes")


def test_a_reasoning_model_is_asked_the_way_it_wants_and_told_off_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    request = Request(QUESTION.messages, Sampling(0.0, 77, seed=5))
    with LlmServer(reasoning_model) as server:
        client = OpenAIClient(base_url=server.base_url, model="judge")
        assert [response.text for response in ask(client, request)] == ["yes"]
        ask(client, request)
        bodies = [received.body for received in server.requests]
    assert len(bodies) == 4, "two refusals, and none the second time"
    assert {name: bodies[-1].get(name) for name in ("max_completion_tokens", "temperature", "seed")} == {
        "max_completion_tokens": 77, "temperature": None, "seed": 5,
    }  # fmt: skip
    assert [record.message.partition(",")[0] for record in caplog.records] == [
        "judge does not take temperature", "judge does not take max_tokens",
    ]  # fmt: skip


def test_any_other_refusal_stays_one() -> None:
    with LlmServer(lambda received: error(400, "the conversation is too long")) as server:
        with pytest.raises(RefusedRequestError, match="too long"):
            ask(OpenAIClient(base_url=server.base_url, model="judge"))
        assert len(server.requests) == 1
