"""Errors that come inside a 200: an upstream that failed behind a gateway, after the status was sent.

    {"error": {...}}                                        also beside `type: error` (Anthropic's form)
    {"choices": [{"error": {...}, ...}]}                    OpenRouter; also in the choice's message
    {"choices": [{"finish_reason": "error", ...}]}          the same without a reason
    data: {"error": {...}}                                  a stream of events, though none was asked for

Such an error is what its code says, as if that had been the status: a number, or a word that OpenAI and Anthropic
document for one.
"""

import json
from dataclasses import dataclass, replace

from sae_auto_interp.clients.http.content import text_in
from sae_auto_interp.clients.http.endpoint import HttpEndpoint
from sae_auto_interp.clients.http.json_values import JsonObject, as_count, as_list, as_object
from sae_auto_interp.clients.http.reply import Reply
from sae_auto_interp.errors import BrokenReplyError, ClientError, ServerError

_STATUSES = {
    "invalid_request_error": 400, "invalid_request": 400, "bad_request": 400, "context_length_exceeded": 400,
    "authentication_error": 401, "invalid_api_key": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413,
    "rate_limit_error": 429, "rate_limit_exceeded": 429, "insufficient_quota": 429, "billing_hard_limit_reached": 429,
    "api_error": 500, "server_error": 500, "internal_error": 500, "internal_server_error": 500, "bad_gateway": 502,
    "service_unavailable": 503, "timeout_error": 504, "timeout": 504, "overloaded_error": 529, "overloaded": 529,
}  # fmt: skip
_CODES = ("code", "status", "status_code", "type")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is an error."""

    status: int
    said: str
    """The body, as it came."""
    error: ClientError
    sent: JsonObject
    """What was sent."""


def outcome(http: HttpEndpoint, response: Reply, sent: JsonObject) -> JsonObject | Refusal:
    """The JSON of a success, or the error that an answer is. Raises BrokenReplyError for a success that is no JSON."""
    if not response.is_success:
        return Refusal(response.status_code, response.text, http.error(response), sent)
    try:
        reply = http.object_in(response)
    except BrokenReplyError:
        reply = _event_with_error(response.text)
        if reply is None:
            raise
    return _refused_inside(http, response, reply, sent) or reply


def error_inside(reply: JsonObject) -> tuple[int, JsonObject] | None:
    """The status that an error inside an answer stands for, and the error; None where there is none, or an error of the
    whole answer has a code that says nothing."""
    choice = _choice(reply)
    whole = _error_in(reply)
    if whole is not None:
        status = _status_of(whole)
        return None if status is None else (status, whole)
    inner = _error_in(choice) or _error_in(as_object(choice.get("message")))
    if inner is None and choice.get("finish_reason") != "error":
        return None
    inner = inner or {"message": "the answer ended with finish_reason 'error'"}
    return _status_of(inner) or 500, inner  # an upstream's failure that does not say which


def is_of_nothing(reply: JsonObject) -> bool:
    """Whether a server counts no token of an answer without text: an upstream that failed behind a gateway looks so."""
    choice = _choice(reply)
    message = as_object(choice.get("message"))
    if text_in(message.get("content")) or message.get("refusal") or message.get("tool_calls"):
        return False
    n_tokens = as_object(reply.get("usage")).get("completion_tokens")
    return n_tokens == 0 and choice.get("finish_reason") in ("stop", None, "")


def nothing_generated(*, is_billed: bool) -> ServerError:
    """The error for an answer of no token; the prompt may be charged."""
    error = ServerError("the answer is empty, and no token of it was generated", status=500)
    error.is_maybe_billed = is_billed
    return error


def _refused_inside(http: HttpEndpoint, response: Reply, reply: JsonObject, sent: JsonObject) -> Refusal | None:
    found = error_inside(reply)
    if found is None:
        return None
    status, inside = found
    body = json.dumps({"error": inside})
    error = http.error(replace(response, status_code=status, content=body.encode("ascii")))
    if status >= 500 and any(as_count(value) for value in as_object(reply.get("usage")).values()):
        error.is_maybe_billed = True
    return Refusal(status, body, error, sent)


def _choice(reply: JsonObject) -> JsonObject:
    return as_object(next(iter(as_list(reply.get("choices"))), None))


def _error_in(value: JsonObject) -> JsonObject | None:
    """What stands under `error`, where that says anything; null and empty ones come with right answers too."""
    error = value.get("error")
    if isinstance(error, str) and error:
        return {"message": error, "code": value.get("code")}
    found = as_object(error)
    return found if any(found.values()) else None


def _status_of(error: JsonObject) -> int | None:
    for name in _CODES:
        code = error.get(name)
        if isinstance(code, str):
            code = int(code) if code.isdecimal() and len(code) == 3 else _STATUSES.get(code.lower())
        if isinstance(code, int) and 400 <= code < 600:
            return code
    return None


def _event_with_error(text: str) -> JsonObject | None:
    """The event of a stream that holds an error."""
    for line in text.splitlines():
        if line.startswith("data:"):
            try:
                event = as_object(json.loads(line.removeprefix("data:")))
            except (ValueError, RecursionError):
                continue
            if _error_in(event) is not None or error_inside(event) is not None:
                return event
    return None
