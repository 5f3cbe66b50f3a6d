"""A loopback server with the form of Anthropic's Messages API: it refuses what the real one refuses, in its words."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from tests.support.llm_server import Received, Reply, json_reply

MODELS = ("claude-test-1", "claude-test-2")
KEY = "sk-ant-planted-0123456789"
Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def problem(status: int, kind: str, message: str, **headers: str) -> Reply:
    reply = json_reply({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}, status)
    return Reply(reply.status, reply.body, {**reply.headers, **headers})


def message(*blocks: Mapping[str, Any], stop_reason: str = "end_turn") -> dict[str, Any]:
    """A whole answer, as the API gives it."""
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": MODELS[0], "content": list(blocks),
        "stop_reason": stop_reason, "stop_sequence": None,
        "usage": {"input_tokens": 11, "cache_read_input_tokens": 5, "output_tokens": 7},
    }  # fmt: skip


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def anthropic(answer: Answer) -> Callable[[Received], Reply]:
    """The API, with `answer` in place of a model: body of a well-formed request -> answer."""

    def respond(received: Received) -> Reply:
        headers = {name.lower(): value for name, value in received.headers.items()}
        if headers.get("x-api-key") != KEY or "authorization" in headers:
            return problem(401, "authentication_error", "invalid x-api-key")
        if "anthropic-version" not in headers:
            return problem(400, "invalid_request_error", "anthropic-version: header is required")
        if received.method == "GET":
            return _models(received.path)
        if received.path != "/v1/messages":
            return problem(404, "not_found_error", "Not Found")
        wrong = _complaint(received.body)
        return json_reply(answer(received.body)) if wrong is None else problem(400, "invalid_request_error", wrong)

    return respond


def _models(path: str) -> Reply:
    listed = [{"type": "model", "id": name} for name in MODELS]
    name = path.removeprefix("/v1/models").partition("?")[0].strip("/")
    if not name:
        return json_reply({"data": listed, "has_more": False})
    return (
        json_reply(listed[MODELS.index(name)]) if name in MODELS else problem(404, "not_found_error", f"model: {name}")
    )


def _complaint(body: Mapping[str, Any]) -> str | None:
    allowed = {"model", "messages", "max_tokens", "system", "temperature", "tools", "tool_choice"}
    for name in ("model", "messages", "max_tokens"):
        if name not in body:
            return f"{name}: Field required"
    for name in set(body) - allowed:
        return f"{name}: Extra inputs are not permitted"
    if not 0 <= body.get("temperature", 1) <= 1:
        return "temperature: range: 0..1"
    roles = [turn["role"] for turn in body["messages"]]
    if set(roles) - {"user", "assistant"}:
        return 'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter'
    if not roles or roles[0] != "user" or any(a == b for a, b in itertools.pairwise(roles)):
        return "messages: roles must alternate between user and assistant, and begin with user"
    return _complaint_about_tools(body)


def _complaint_about_tools(body: Mapping[str, Any]) -> str | None:
    tools = body.get("tools", [])
    if any(tool["input_schema"].get("type") != "object" for tool in tools):
        return "tools.0.input_schema.type: Input should be 'object'"
    chosen = body.get("tool_choice")
    if chosen is not None and (chosen["type"] != "tool" or chosen["name"] not in [tool["name"] for tool in tools]):
        return "tool_choice: no such tool"
    return None
