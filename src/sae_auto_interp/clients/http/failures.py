"""An HTTP answer that is not a success -> the ClientError that says what to do about it.

Which errors are worth retrying is decided by their class (see `errors`): 429, 5xx, 408 (the server gave up
waiting) and 409 (it was busy with something that collides) pass with time. 401 (no such key), 402 (no money left)
and a 429 that says so in words are about the account: no request will do any better. Any other status will not heal.
"""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeAlias

from sae_auto_interp.clients.http.context_length import too_long
from sae_auto_interp.clients.http.json_values import JsonObject, as_object
from sae_auto_interp.clients.http.reply import Reply
from sae_auto_interp.errors import ClientError, NoAccessError, RateLimitedError, RefusedRequestError, ServerError

Quote: TypeAlias = Callable[[str], str]
"""Makes a server's text fit to be shown; see `ApiKey.quote`."""

_MOST_DIGITS = 15
_PASSES_WITH_TIME = (408, 409)
_ABOUT_THE_ACCOUNT = (401, 402)
_MAY_BE_ABOUT_LENGTH = (400, 413, 422, 500)
_USED_UP = ("insufficient_quota", "billing_hard_limit_reached")
"""Codes in the body of a 429 that no waiting helps against (OpenAI's error codes)."""


def error_for_status(response: Reply, quote: Quote, advice: str) -> ClientError:
    """The error for an answer whose status is not 2xx: the server's own words, then our advice."""
    status = response.status_code
    message = f"{response.url} answered {status}: {quote(server_message(response))}{advice}"
    seconds = retry_after_seconds(response.headers.get("Retry-After"))
    if status in _MAY_BE_ABOUT_LENGTH and (error := too_long(message, response.content)) is not None:
        return error
    if status in _ABOUT_THE_ACCOUNT or (status == 429 and _error_code(response) in _USED_UP):
        return NoAccessError(message)
    if status == 429:
        return RateLimitedError(message, seconds)
    if status >= 500 or status in _PASSES_WITH_TIME:
        return ServerError(message, status=status, retry_after_seconds=seconds)
    return RefusedRequestError(message)


def server_message(response: Reply) -> str:
    """What the server says is wrong: the message in its JSON where there is one, else the body as it is."""
    body = _json_body(response)
    error = body.get("error")
    for said in (as_object(error).get("message"), error, body.get("message"), body.get("detail")):
        if isinstance(said, str) and said:
            return said
    return response.text or response.reason or "(empty body)"


def _error_code(response: Reply) -> object:
    error = as_object(_json_body(response).get("error"))
    return error.get("code") or error.get("type")


def _json_body(response: Reply) -> JsonObject:
    try:
        return as_object(json.loads(response.content))
    except (ValueError, RecursionError):
        return as_object(None)


def retry_after_seconds(header: str | None) -> float | None:
    """Read a Retry-After header: seconds or an HTTP date (RFC 9110, 10.2.3); None where it says nothing usable.

    A number beyond all others is infinite.
    """
    if header is None:
        return None
    said = header.strip()
    try:
        seconds = math.inf if said.isdecimal() and len(said) > _MOST_DIGITS else float(said)
    except ValueError:
        return _seconds_until(said)
    return max(0.0, seconds) if math.isfinite(seconds) or said.isdecimal() else None


def _seconds_until(http_date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(http_date)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError, TypeError, IndexError):  # what its parser raises for what is no date
        return None
