"""The wire format of `/v1/chat/completions`: Request -> JSON body, JSON body -> Response.

Fields as OpenAI documents them; vLLM, llama.cpp, SGLang, Ollama and OpenRouter keep to them. A server that does
not know a field ignores it without a word, so `logprobs` may be missing from the answer although they were asked
for: that is `None` in the Response, not an error. Of an endpoint that was probed, only what it really does is asked
for. An answer without text is an error, never an empty text; what a model thought before it is left out.
"""

import json
import math
from collections.abc import Sequence
from functools import lru_cache

from sae_auto_interp.clients.http.capabilities import Capabilities
from sae_auto_interp.clients.http.content import refusal_in, text_in
from sae_auto_interp.clients.http.errors_inside import is_of_nothing, nothing_generated
from sae_auto_interp.clients.http.failures import Quote
from sae_auto_interp.clients.http.json_values import JsonObject, as_list, as_object, is_list
from sae_auto_interp.clients.http.refused_parameters import SCHEMA_FIELDS, schema_kind, without_system
from sae_auto_interp.clients.http.schema_words import worded
from sae_auto_interp.clients.http.thinking import thinking_length, without_first
from sae_auto_interp.clients.http.usage import chat_usage, malformed
from sae_auto_interp.errors import BrokenReplyError, MalformedReplyError, RefusedRequestError
from sae_auto_interp.types import Request, Response, TokenLogprob, Usage, as_logprob, tokens_of


def encode_request(request: Request, model: str, known: Capabilities | None = None) -> dict[str, object]:
    """The body of a request, as far as the endpoint is known to do it. Raises RefusedRequestError for a bad schema."""
    bound: JsonObject = {} if request.schema is None else _bound_to(request.schema, known)
    messages = worded(request) if bound else request.messages
    body: dict[str, object] = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        "temperature": request.sampling.temperature,
        "max_tokens": request.sampling.max_tokens,
    }
    if request.sampling.seed is not None:
        body["seed"] = request.sampling.seed
    top_logprobs = request.top_logprobs if known is None else min(request.top_logprobs, known.top_logprobs)
    if top_logprobs:
        body |= {"logprobs": True, "top_logprobs": top_logprobs}
    body |= bound
    if known is not None and known.system_role is False:
        body["messages"] = without_system(as_list(body["messages"]))
    return body


def as_ascii(body: JsonObject) -> bytes:
    """ASCII JSON, so that any string, a lone surrogate too, reaches the server."""
    return json.dumps(body).encode("ascii")


def decode_reply(reply: JsonObject, asked_model: str, quote: Quote) -> Response:
    """Read a successful answer.

    Raises BrokenReplyError where it is no completion at all (a gateway's page), ServerError where nothing was
    generated, MalformedReplyError where it is a whole completion without text.
    """
    choice = as_object(next(iter(as_list(reply.get("choices"))), None))
    if not choice:
        raise BrokenReplyError(f"the answer has no choices: {quote(json.dumps(reply)) or '(empty body)'}")
    usage = chat_usage(reply)
    if is_of_nothing(reply):
        raise nothing_generated(is_billed=as_object(reply.get("usage")).get("prompt_tokens") != 0)
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
        logprobs=logprobs_of(choice, text, n_thinking),
    )


def logprobs_of(choice: JsonObject, content: str, n_thinking: int) -> tuple[TokenLogprob, ...] | None:
    """Log-probabilities of the answer's tokens: of the content without what was thought at its beginning.

    Some servers rate what was thought too, some the answer alone, and most what ends it. None where there are none, or
    where the answer is not among what they rate.
    """
    entries = [as_object(entry) for entry in as_list(as_object(choice.get("logprobs")).get("content"))]
    rated = [_token_logprob(entry) for entry in entries]
    tokens = [token for token in rated if token is not None]
    if not tokens or len(tokens) < len(rated):
        return None
    whole = tokens_of(content, tokens)
    return tokens_of(content[n_thinking:], tokens) if whole is None else without_first(whole, n_thinking)


def rates_tokens(reply: JsonObject) -> bool:
    """Whether an answer has log-probabilities, of whatever."""
    choice = as_object(next(iter(as_list(reply.get("choices"))), None))
    return bool(as_list(as_object(choice.get("logprobs")).get("content")))


def decode_model_list(content: bytes) -> list[str] | None:
    """Ids of the models that `/v1/models` lists; None where the body is no such list."""
    try:
        entries = as_object(json.loads(content)).get("data")
    except (ValueError, RecursionError):
        return None
    if not is_list(entries):
        return None
    ids = [as_object(entry).get("id") for entry in as_list(entries)]
    return [model for model in ids if isinstance(model, str)]


def _bound_to(schema: str, known: Capabilities | None) -> JsonObject:
    """The field that holds the answer to its schema; none where the endpoint has none, and text is read instead."""
    bound = _field_for(schema, known)
    kinds = {schema_kind(as_object(bound[name])) for name in SCHEMA_FIELDS if name in bound}
    return bound if known is None or kinds.isdisjoint(known.refused) else {}


def _field_for(schema: str, known: Capabilities | None) -> JsonObject:
    parsed = _parsed(schema)
    if known is None or (known.json_schema and (known.list_schema is not False or not has_fixed_length(schema))):
        answer = {"name": "answer", "strict": True, "schema": parsed}
        return {"response_format": {"type": "json_schema", "json_schema": answer}}
    choices = as_list(as_object(parsed).get("enum"))
    if known.choice_field is None or not choices or not all(isinstance(choice, str) for choice in choices):
        return {}
    return {known.choice_field: choices if known.choice_field == "guided_choice" else {"choice": choices}}


def has_fixed_length(schema: str) -> bool:
    """Whether a schema says how long a list is."""
    kind = schema_kind(as_object(_parsed(schema)))
    return "minItems" in kind or "maxItems" in kind


@lru_cache(maxsize=64)
def _parsed(schema: str) -> object:
    """The schema as JSON; the same few come with all requests."""
    try:
        return json.loads(schema)
    except ValueError as error:
        raise RefusedRequestError(f"the schema of the request is not JSON ({error}): {schema[:200]!r}") from None


def _text(choice: JsonObject, usage: Usage, quote: Quote) -> str:
    message = as_object(choice.get("message"))
    content = message.get("content")
    text = text_in(content)
    if text:
        return text
    refusal = message.get("refusal") or refusal_in(content)
    if isinstance(refusal, str) and refusal:
        raise _without_answer(f"the model refused to answer: {quote(refusal)}", usage)
    kind = "empty" if text == "" else f"not text but {type(content).__name__}"
    reason = choice.get("finish_reason")
    raise _without_answer(f"the content of the answer is {kind} (finish_reason {reason!r}){_advice(choice)}", usage)


def _advice(choice: JsonObject) -> str:
    spent = choice.get("finish_reason") == "length"
    return "; all of max_tokens was spent before any text: raise max_tokens" if spent else ""


def _without_answer(message: str, usage: Usage) -> MalformedReplyError:
    return malformed(message, usage)


def _token_logprob(entry: JsonObject) -> TokenLogprob | None:
    """None for what names no token: then it is not known what the others are of."""
    token = entry.get("token")
    if not isinstance(token, str):
        return None
    return TokenLogprob(token, as_logprob(entry.get("logprob")), _alternatives(as_list(entry.get("top_logprobs"))))


def _alternatives(entries: Sequence[object]) -> dict[str, float]:
    """Two tokens may print alike (bytes of one character do): the likelier one stays; no number spoils both."""
    alternatives: dict[str, float] = {}
    for entry in map(as_object, entries):
        token, logprob = entry.get("token"), as_logprob(entry.get("logprob"))
        if isinstance(token, str):
            known = alternatives.get(token, logprob)
            alternatives[token] = math.nan if math.isnan(known) or math.isnan(logprob) else max(known, logprob)
    return alternatives
