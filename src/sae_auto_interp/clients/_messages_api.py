"""The wire format of Anthropic's Messages API: Request -> JSON body, JSON body -> Response.

It differs from OpenAI's where it matters: the system text stands apart, user and assistant must alternate and begin
with the user, `max_tokens` is required, there is no seed, and there are no log-probabilities. An answer is held to a
schema by making the model call a tool whose input has that schema; the input, as JSON, is then the text.
"""

import json
from collections.abc import Sequence

from sae_auto_interp.clients.http.failures import Quote
from sae_auto_interp.clients.http.json_values import JsonObject, as_count, as_list, as_object
from sae_auto_interp.errors import MalformedReplyError, RefusedRequestError
from sae_auto_interp.types import Message, Request, Response, Usage

TOOL = "answer"
_FINISH_REASONS = {"end_turn": "stop", "stop_sequence": "stop", "tool_use": "stop", "max_tokens": "length"}
_PROMPT_TOKENS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


def encode_message(request: Request, model: str) -> dict[str, object]:
    """The body of a request; raises RefusedRequestError for a schema that is no JSON, or when nothing is asked."""
    system = "\n\n".join(message.content for message in request.messages if message.role == "system")
    turns = _turns([message for message in request.messages if message.role != "system"])
    if not turns or turns[0]["role"] != "user":
        raise RefusedRequestError("the messages do not begin with the user's, as this API wants")
    body: dict[str, object] = {
        "model": model,
        "max_tokens": request.sampling.max_tokens,
        "temperature": min(1.0, request.sampling.temperature),
        "messages": turns,
    }
    if system:
        body["system"] = system
    body.update(_bound_to(request.schema))
    return body


def decode_message(reply: JsonObject, asked_model: str, quote: Quote) -> Response:
    """Read a successful answer; raises MalformedReplyError where it holds no text."""
    reason = reply.get("stop_reason")
    blocks = [as_object(block) for block in as_list(reply.get("content"))]
    calls = [json.dumps(block.get("input")) for block in blocks if block.get("type") == "tool_use"]
    text = calls[0] if calls else "".join(_text(block) for block in blocks)
    if reason == "refusal":
        raise MalformedReplyError(f"the model refused to answer: {quote(text) or '(no words)'}")
    if not text:
        advice = "; all of max_tokens was spent before any text: raise max_tokens" if reason == "max_tokens" else ""
        raise MalformedReplyError(f"the answer has no text (stop_reason {reason!r}){advice}")
    model, usage = reply.get("model"), as_object(reply.get("usage"))
    return Response(
        text=text,
        usage=Usage(sum(as_count(usage.get(name)) for name in _PROMPT_TOKENS), as_count(usage.get("output_tokens")), 1),
        finish_reason=_FINISH_REASONS.get(str(reason), str(reason)),
        model=model if isinstance(model, str) and model else asked_model,
    )


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Messages of one role in a row become one, since the roles must alternate."""
    turns: list[dict[str, str]] = []
    for message in messages:
        if turns and turns[-1]["role"] == message.role:
            turns[-1]["content"] += f"\n\n{message.content}"
        else:
            turns.append({"role": message.role, "content": message.content})
    return turns


def _bound_to(schema: str | None) -> JsonObject:
    """The tool that the model must call; a tool's input is an object, so any other schema is left to the prompt."""
    try:
        parsed = as_object(json.loads(schema or "null"))
    except ValueError as error:
        raise RefusedRequestError(f"the schema of the request is not JSON ({error}): {str(schema)[:200]!r}") from None
    if parsed.get("type") != "object":
        return {}
    tool = {"name": TOOL, "description": "Give the answer.", "input_schema": parsed}
    return {"tools": [tool], "tool_choice": {"type": "tool", "name": TOOL}}


def _text(block: JsonObject) -> str:
    """Of a text block; thinking and other blocks say nothing."""
    text = block.get("text")
    return text if block.get("type") == "text" and isinstance(text, str) else ""
