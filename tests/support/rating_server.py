"""`/v1/completions` of the embedded model, with what two kinds of servers say of the tokens of a prompt.

LlmServer(completions(as_vllm))                 vLLM's field `prompt_logprobs`
LlmServer(completions(as_completions_of_old))   `echo` with `logprobs`
"""

from collections.abc import Callable, Mapping
from typing import Any

from tests.support.embedded_reference import greedy, piece_of, rate
from tests.support.llm_server import Received, Reply, answer, json_reply

Answers = Callable[[Received], Reply]


def completions(rating: Callable[[str, Mapping[str, Any]], dict[str, Any]]) -> Answers:
    def respond(received: Received) -> Reply:
        body = received.body
        if not received.path.endswith("/completions") or "messages" in body:
            return answer("green")
        following = piece_of(greedy(body["prompt"], 1)[0])
        choice = {"text": following, "finish_reason": "length"} | rating(body["prompt"], body)
        return json_reply({"model": "judge", "choices": [choice], "usage": {"prompt_tokens": 20}})

    return respond


def as_vllm(text: str, body: Mapping[str, Any]) -> dict[str, Any]:
    if "prompt_logprobs" not in body:
        return {}
    rated = rate(text)

    def entry(i: int) -> dict[str, Any]:
        values = {rated.ids[i]: rated.of_token(i)} | rated.likeliest(i, max(1, body["prompt_logprobs"]))
        return {str(k): {"logprob": v, "decoded_token": piece_of(k)} for k, v in values.items()}

    return {"prompt_logprobs": [None, *(entry(i) for i in range(1, len(rated.ids)))]}


def as_completions_of_old(text: str, body: Mapping[str, Any]) -> dict[str, Any]:
    if "echo" not in body:
        return {}
    following = piece_of(greedy(text, 1)[0])
    rated = rate(text)
    values = [None, *(rated.of_token(i) for i in range(1, len(rated.ids)))]
    tops = [{piece_of(k): v for k, v in rated.likeliest(i, body["logprobs"]).items()} for i in range(1, len(rated.ids))]
    logprobs = {"tokens": [*rated.pieces, following], "token_logprobs": [*values, -0.5]}
    return {"text": text + following, "logprobs": logprobs | {"top_logprobs": [None, *tops, {following: -0.5}]}}
