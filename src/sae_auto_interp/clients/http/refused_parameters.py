"""Parameters that a server refuses: found out from its own words, and left out from then on.

A reasoning model may take neither `temperature` nor `max_tokens`, a strict server no `seed`. Which ones is never
guessed from a model's name: a 400 or 422 that names a parameter of the request and says that there is no such thing is
what counts. A complaint about a value ("max_tokens is too large", "invalid schema") drops nothing.
"""

import json
import re
from collections.abc import Collection, Mapping

from sae_auto_interp.clients.http.json_values import JsonObject, as_list, as_object

DROPPABLE = (
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "seed",
    "top_logprobs",
    "logprobs",
    "response_format",
)
"""What a request can do without; the answer is then read as it comes."""

_REFUSING = re.compile(
    r"unsupported|not (be )?support|(un|not )(recogni[sz]ed|known|expected)|not permitted|not allowed|deprecated|"
    r"extra_forbidden|not available|does(n't| not) (accept|support)|do(n't| not) support",
    re.IGNORECASE,
)
_ABOUT_A_VALUE = re.compile(r"invalid.{0,20}schema|too (large|small|long|high|low)|at most|at least", re.IGNORECASE)


def refused_parameter(status: int, body: str, sent: Collection[str]) -> str | None:
    """The parameter of the request that an answer refuses, or None.

    >>> said = '{"error": {"message": "Unsupported parameter: max_tokens. Use max_completion_tokens instead."}}'
    >>> refused_parameter(400, said, {"max_tokens", "temperature"})
    'max_tokens'
    """
    if status not in (400, 422) or not _REFUSING.search(body) or _ABOUT_A_VALUE.search(body):
        return None
    possible = [name for name in DROPPABLE if name in sent]
    named = _named_outright(body)
    if named in possible:
        return named
    places = {name: found.start() for name in possible if (found := re.search(rf"\b{name}\b", body))}
    return min(places, key=lambda name: places[name]) if places else None


def without_refused(body: JsonObject, refused: Collection[str]) -> dict[str, object]:
    """The body with what the server takes: `max_tokens` goes by its newer name before it is left out."""
    if not refused:
        return dict(body)
    left = dict(body)
    if "max_tokens" in refused and "max_tokens" in left:
        left["max_completion_tokens"] = left.pop("max_tokens")
    if "logprobs" in refused:
        left.pop("top_logprobs", None)
    return {name: value for name, value in left.items() if name not in refused}


def _named_outright(body: str) -> str | None:
    """The parameter in the field that OpenAI (`param`) and FastAPI (`loc`) have for it."""
    try:
        reply = as_object(json.loads(body))
    except (ValueError, RecursionError):
        return None
    parameter = as_object(reply.get("error")).get("param")
    if isinstance(parameter, str):
        return parameter.partition(".")[0]
    place = as_list(next((d.get("loc") for d in _details(reply)), None))
    return place[-1] if place and isinstance(place[-1], str) else None


def _details(reply: JsonObject) -> list[Mapping[str, object]]:
    return [as_object(detail) for detail in as_list(reply.get("detail"))]
