"""Anthropic's Messages API over HTTP (https://docs.anthropic.com/en/api/messages, version 2023-06-01).

One Request becomes one POST to `{base_url}/v1/messages`. Overload (529) and rate limits (429, with Retry-After) are
errors worth retrying. There are no log-probabilities and no seed; equal requests may be answered differently.

The wire format of Anthropic's Messages API: Request -> JSON body, JSON body -> Response.

It differs from OpenAI's where it matters: the system text stands apart, user and assistant must alternate and begin
with the user, `max_tokens` is required, there is no seed, and there are no log-probabilities. An answer is held to a
schema by making the model call a tool whose input has that schema; the input, as JSON, is then the text.
"""

import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

from sae_auto_interp.clients.http.api_key import ApiKey
from sae_auto_interp.clients.http.chat_completions import as_ascii, decode_model_list
from sae_auto_interp.clients.http.content import text_in
from sae_auto_interp.clients.http.endpoint import HttpEndpoint
from sae_auto_interp.clients.http.errors_inside import Refusal, nothing_generated, outcome
from sae_auto_interp.clients.http.failures import Quote
from sae_auto_interp.clients.http.json_values import JsonObject, as_list, as_object
from sae_auto_interp.clients.http.learning import Refusals
from sae_auto_interp.clients.http.refused_parameters import (
    SYSTEM,
    schema_kind,
    shown_name,
    without_refused,
    without_system,
)
from sae_auto_interp.clients.http.usage import malformed, messages_usage
from sae_auto_interp.clients.wrappers.patience import model_at
from sae_auto_interp.errors import InputError, RefusedRequestError, UnknownNameError
from sae_auto_interp.types import Message, Request, Response

TOOL = "answer"


_FINISH_REASONS = {"end_turn": "stop", "stop_sequence": "stop", "tool_use": "stop", "max_tokens": "length"}


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


def message_parts(body: JsonObject) -> list[str]:
    """What a request can do without (`_parameters`), in the order in which it is missed least."""
    schemas = [schema_kind(as_object(as_object(tool).get("input_schema"))) for tool in as_list(body.get("tools"))]
    return schemas + ([SYSTEM] if "system" in body else []) + (["temperature"] if "temperature" in body else [])


def message_without(body: JsonObject, left_out: Collection[str]) -> dict[str, object]:
    """The request without some parts: the system text is then in front of the user's first."""
    left = without_refused(body, left_out)
    if SYSTEM in left_out and "system" in left:
        system = {"role": "system", "content": left.pop("system")}
        left["messages"] = without_system([system, *as_list(left["messages"])])
    if not set(message_parts(left)).isdisjoint(left_out):  # only the schema of a tool is left to be
        left.pop("tools", None)
        left.pop("tool_choice", None)
    return left


def decode_message(reply: JsonObject, asked_model: str, quote: Quote) -> Response:
    """Read a successful answer; raises ServerError where nothing was generated, MalformedReplyError without a text."""
    reason = reply.get("stop_reason")
    blocks = [as_object(block) for block in as_list(reply.get("content"))]
    calls = [json.dumps(block.get("input")) for block in blocks if block.get("type") == "tool_use"]
    text = calls[0] if calls else text_in(reply.get("content")) or ""
    usage = messages_usage(reply)
    if reason == "refusal":
        raise malformed(f"the model refused to answer: {quote(text) or '(no words)'}", usage)
    if not text and reason != "max_tokens" and as_object(reply.get("usage")).get("output_tokens") == 0:
        raise nothing_generated(is_billed=True)
    if not text:
        advice = "; all of max_tokens was spent before any text: raise max_tokens" if reason == "max_tokens" else ""
        raise malformed(f"the answer has no text (stop_reason {reason!r}){advice}", usage)
    model = reply.get("model")
    return Response(
        text=text,
        usage=usage,
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


_log = logging.getLogger(__name__)


API_VERSION = "2023-06-01"


@dataclass(frozen=True, kw_only=True, eq=False)
class AnthropicClient:
    """Client of one of Anthropic's models.

    Raises InputError when built with a `base_url` or `timeout_seconds` that cannot be used, or without an API key.
    """

    model: str
    """Its name, e.g. claude-haiku-4-5."""
    base_url: str = "https://api.anthropic.com"
    """Where the API is, without /v1. It is stored and shown: no secret belongs in it."""
    api_key_env: str = "ANTHROPIC_API_KEY"
    """Environment variable that holds the API key, read when the client is built."""
    timeout_seconds: float = 120.0
    """Longest wait for one complete answer, connecting included."""

    def __post_init__(self) -> None:
        if not self._http.key:
            raise InputError(f"client.kind anthropic needs an API key: set the environment variable {self.api_key_env}")

    async def prepare(self, memory: object = None) -> str:
        """Make sure that the key is taken and the model is there; returns what the API can do, which is known.

        Raises UnknownNameError for a model that is not there, and the errors of `generate`.
        """
        response = await model_at(self._http, f"v1/models/{self.model}", self)
        if response.status_code == 404:
            listed = await self._http.send("GET", "v1/models?limit=1000")
            names = decode_model_list(listed.content) if listed.is_success else []
            raise UnknownNameError(f"model at {self.base_url}", self.model, names or [])
        return "has: json_schema (by a tool), max_tokens; absent: top_logprobs, prompt_logprobs, n, seed"

    async def generate(self, request: Request) -> Response:
        """Answer one request.

        Raises UnreachableError, TimeoutExceededError, RateLimitedError, ServerError (these four are worth
        retrying), RefusedRequestError or MalformedReplyError, and nothing else.
        """
        body = encode_message(request, self.model)
        reply = await self._refusals.ask(message_parts(body), lambda left_out: self._send(body, left_out))
        return decode_message(reply, self.model, self._http.key.quote)

    async def _send(self, body: JsonObject, left_out: Collection[str]) -> JsonObject | Refusal:
        sent = message_without(body, left_out)
        reply = await self._http.send("POST", "v1/messages", as_ascii(sent))
        return outcome(self._http, reply, {name: sent[name] for name in ("messages", "temperature") if name in sent})

    async def close(self) -> None:
        """Close the connections; new ones are opened if it is used again, in another event loop too."""
        await self._http.close()

    @cached_property
    def _http(self) -> HttpEndpoint:
        key = ApiKey.from_environment(self.api_key_env)
        headers = key.headers("x-api-key", "") | {"anthropic-version": API_VERSION}
        return HttpEndpoint(base_url=self.base_url, key=key, headers=headers, timeout_seconds=self.timeout_seconds)

    @cached_property
    def _refusals(self) -> Refusals:
        """What the model does not take, as it said or showed itself."""

        def learn(part: str, refusal: Refusal) -> None:
            _log.warning(
                "%s does not take %s, which is left out from now on: %s", self.model, shown_name(part), refusal.error
            )

        return Refusals(learn)
