"""The wire format of `/v1/chat/completions`: Request -> JSON body, JSON body -> Response.

Fields as OpenAI documents them; vLLM, llama.cpp, SGLang, Ollama and OpenRouter keep to them. A server that does
not know a field ignores it without a word, so `logprobs` may be missing from the answer although they were asked
for: that is `None` in the Response, not an error. An answer without text is an error, never an empty text.
"""

import json
from collections.abc import Sequence

from sae_auto_interp.clients._http_failures import Quote
from sae_auto_interp.clients._json_values import JsonObject, as_count, as_list, as_object
from sae_auto_interp.errors import BrokenReplyError, MalformedReplyError, RefusedRequestError
from sae_auto_interp.types import Request, Response, TokenLogprob, Usage


def encode_request(request: Request, model: str) -> bytes:
    """ASCII JSON, so that any string, a lone surrogate too, reaches the server; raises RefusedRequestError."""
    body: dict[str, object] = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "temperature": request.sampling.temperature,
        "max_tokens": request.sampling.max_tokens,
    }
    if request.sampling.seed is not None:
        body["seed"] = request.sampling.seed
    if request.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if request.schema is not None:
        body["response_format"] = _response_format(request.schema)
    return json.dumps(body).encode("ascii")


def decode_reply(content: bytes, asked_model: str, quote: Quote) -> Response:
    """Read a successful answer.

    Raises BrokenReplyError where it is no completion at all (a gateway's page, half a body), MalformedReplyError
    where it is a whole one without text.
    """
    try:
        reply = as_object(json.loads(content))
    except (ValueError, RecursionError):
        raise BrokenReplyError(f"the answer is not JSON: {_start(content, quote)}") from None
    choice = as_object(next(iter(as_list(reply.get("choices"))), None))
    if not choice:
        raise BrokenReplyError(f"the answer has no choices: {_start(content, quote)}")
    finish_reason, model = choice.get("finish_reason"), reply.get("model")
    usage = _usage(as_object(reply.get("usage")))
    return Response(
        text=_text(choice, usage, quote),
        usage=usage,
        finish_reason=finish_reason if isinstance(finish_reason, str) else "unknown",
        model=model if isinstance(model, str) and model else asked_model,
        logprobs=_logprobs(as_object(choice.get("logprobs")), quote),
    )


def decode_model_list(content: bytes) -> list[str]:
    """Ids of the models that `/v1/models` lists; empty where the body is no such list."""
    try:
        entries = as_list(as_object(json.loads(content)).get("data"))
    except (ValueError, RecursionError):
        return []
    ids = [as_object(entry).get("id") for entry in entries]
    return [model for model in ids if isinstance(model, str)]


def _response_format(schema: str) -> JsonObject:
    try:
        parsed: object = json.loads(schema)
    except ValueError as error:
        raise RefusedRequestError(f"the schema of the request is not JSON ({error}): {schema[:200]!r}") from None
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": parsed}}


def _text(choice: JsonObject, usage: Usage, quote: Quote) -> str:
    message = as_object(choice.get("message"))
    content = message.get("content")
    if isinstance(content, str) and content:
        return content
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        raise _without_answer(f"the model refused to answer: {quote(refusal)}", usage)
    reason = choice.get("finish_reason")
    advice = "; all of max_tokens was spent before any text: raise max_tokens" if reason == "length" else ""
    kind = "empty" if content == "" else f"not text but {type(content).__name__}"
    raise _without_answer(f"the content of the answer is {kind} (finish_reason {reason!r}){advice}", usage)


def _without_answer(message: str, usage: Usage) -> MalformedReplyError:
    return MalformedReplyError(message, prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)


def _usage(usage: JsonObject) -> Usage:
    return Usage(as_count(usage.get("prompt_tokens")), as_count(usage.get("completion_tokens")), n_requests=1)


def _logprobs(logprobs: JsonObject, quote: Quote) -> tuple[TokenLogprob, ...] | None:
    content = logprobs.get("content")
    return tuple(_token_logprob(as_object(entry), quote) for entry in as_list(content)) if content else None


def _token_logprob(entry: JsonObject, quote: Quote) -> TokenLogprob:
    token, logprob = entry.get("token"), entry.get("logprob")
    if not isinstance(token, str) or not isinstance(logprob, int | float):
        raise MalformedReplyError(f"a logprob of the answer has no token or no number: {quote(json.dumps(entry))}")
    return TokenLogprob(token, float(logprob), _alternatives(as_list(entry.get("top_logprobs"))))


def _alternatives(entries: Sequence[object]) -> dict[str, float]:
    """Two tokens may print alike (bytes of one character do): the likelier one stays."""
    alternatives: dict[str, float] = {}
    for entry in map(as_object, entries):
        token, logprob = entry.get("token"), entry.get("logprob")
        if isinstance(token, str) and isinstance(logprob, int | float):
            alternatives[token] = max(float(logprob), alternatives.get(token, float(logprob)))
    return alternatives


def _start(content: bytes, quote: Quote) -> str:
    return quote(content.decode("utf-8", errors="replace")) or "(empty body)"
