"""The wire format of `/v1/chat/completions`: Request -> JSON body, JSON body -> Response.

Fields as OpenAI documents them; vLLM, llama.cpp, SGLang, Ollama and OpenRouter keep to them. A server that does
not know a field ignores it without a word, so `logprobs` may be missing from the answer although they were asked
for: that is `None` in the Response, not an error. Of an endpoint that was probed, only what it really does is asked
for. An answer without text is an error, never an empty text; what a model thought before it is left out.
"""

import json
from collections.abc import Sequence
from functools import lru_cache

from sae_auto_interp.clients.http.capabilities import Capabilities
from sae_auto_interp.clients.http.failures import Quote
from sae_auto_interp.clients.http.json_values import JsonObject, as_count, as_list, as_object
from sae_auto_interp.clients.http.thinking import thinking_length, without_first
from sae_auto_interp.errors import BrokenReplyError, MalformedReplyError, RefusedRequestError
from sae_auto_interp.types import Request, Response, TokenLogprob, Usage


def encode_request(request: Request, model: str, known: Capabilities | None = None) -> dict[str, object]:
    """The body of a request, as far as the endpoint is known to do it. Raises RefusedRequestError for a bad schema."""
    body: dict[str, object] = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "temperature": request.sampling.temperature,
        "max_tokens": request.sampling.max_tokens,
    }
    if request.sampling.seed is not None:
        body["seed"] = request.sampling.seed
    top_logprobs = request.top_logprobs if known is None else min(request.top_logprobs, known.top_logprobs)
    if top_logprobs:
        body |= {"logprobs": True, "top_logprobs": top_logprobs}
    if request.schema is not None:
        body |= _bound_to(request.schema, known)
    return body


def as_ascii(body: JsonObject) -> bytes:
    """ASCII JSON, so that any string, a lone surrogate too, reaches the server."""
    return json.dumps(body).encode("ascii")


def decode_reply(reply: JsonObject, asked_model: str, quote: Quote) -> Response:
    """Read a successful answer.

    Raises BrokenReplyError where it is no completion at all (a gateway's page), MalformedReplyError where it is a whole
    one without text.
    """
    choice = as_object(next(iter(as_list(reply.get("choices"))), None))
    if not choice:
        raise BrokenReplyError(f"the answer has no choices: {quote(json.dumps(reply)) or '(empty body)'}")
    usage = _usage(as_object(reply.get("usage")))
    text = _text(choice, usage, quote)
    n_thinking = thinking_length(text)
    if n_thinking == len(text):
        raise _without_answer(f"the answer is all thinking and no text{_advice(choice)}: {quote(text)}", usage)
    finish_reason, model = choice.get("finish_reason"), reply.get("model")
    return Response(
        text=text[n_thinking:],
        usage=usage,
        finish_reason=finish_reason if isinstance(finish_reason, str) else "unknown",
        model=model if isinstance(model, str) and model else asked_model,
        logprobs=_of_answer(decode_choice_logprobs(choice, quote), text, n_thinking),
    )


def decode_choice_logprobs(choice: JsonObject, quote: Quote) -> tuple[TokenLogprob, ...] | None:
    """Log-probabilities of one choice's tokens, where there are any; raises MalformedReplyError for what is none."""
    content = as_object(choice.get("logprobs")).get("content")
    return tuple(_token_logprob(as_object(entry), quote) for entry in as_list(content)) if content else None


def decode_model_list(content: bytes) -> list[str]:
    """Ids of the models that `/v1/models` lists; empty where the body is no such list."""
    try:
        entries = as_list(as_object(json.loads(content)).get("data"))
    except (ValueError, RecursionError):
        return []
    ids = [as_object(entry).get("id") for entry in entries]
    return [model for model in ids if isinstance(model, str)]


def _bound_to(schema: str, known: Capabilities | None) -> JsonObject:
    """The field that holds the answer to its schema; none where the endpoint has none, and text is read instead."""
    parsed = _parsed(schema)
    if known is None or known.json_schema:
        answer = {"name": "answer", "strict": True, "schema": parsed}
        return {"response_format": {"type": "json_schema", "json_schema": answer}}
    choices = as_list(as_object(parsed).get("enum"))
    if known.choice_field is None or not choices or not all(isinstance(choice, str) for choice in choices):
        return {}
    return {known.choice_field: choices if known.choice_field == "guided_choice" else {"choice": choices}}


@lru_cache(maxsize=64)
def _parsed(schema: str) -> object:
    """The schema as JSON; the same few come with all requests."""
    try:
        return json.loads(schema)
    except ValueError as error:
        raise RefusedRequestError(f"the schema of the request is not JSON ({error}): {schema[:200]!r}") from None


def _of_answer(tokens: tuple[TokenLogprob, ...] | None, text: str, n_thinking: int) -> tuple[TokenLogprob, ...] | None:
    """Some servers rate what was thought too, some the answer alone."""
    rates_thinking = tokens is not None and "".join(token.token for token in tokens).startswith(text[:n_thinking])
    return without_first(tokens, n_thinking if rates_thinking else 0)


def _text(choice: JsonObject, usage: Usage, quote: Quote) -> str:
    message = as_object(choice.get("message"))
    content = message.get("content")
    if isinstance(content, str) and content:
        return content
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        raise _without_answer(f"the model refused to answer: {quote(refusal)}", usage)
    kind = "empty" if content == "" else f"not text but {type(content).__name__}"
    reason = choice.get("finish_reason")
    raise _without_answer(f"the content of the answer is {kind} (finish_reason {reason!r}){_advice(choice)}", usage)


def _advice(choice: JsonObject) -> str:
    spent = choice.get("finish_reason") == "length"
    return "; all of max_tokens was spent before any text: raise max_tokens" if spent else ""


def _without_answer(message: str, usage: Usage) -> MalformedReplyError:
    return MalformedReplyError(message, prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)


def _usage(usage: JsonObject) -> Usage:
    return Usage(as_count(usage.get("prompt_tokens")), as_count(usage.get("completion_tokens")), n_requests=1)


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
