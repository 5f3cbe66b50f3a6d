"""What a request can do without, which of it a server's words refuse, and what the request is without it.

A reasoning model may take neither `temperature` nor `max_tokens`, a strict server no `seed`, another no system message
or no list of fixed length in a schema. Which ones is never guessed from a model's name. A 400 or 422 that names a
parameter of the request and says that there is no such thing is the clearest; where the words name none, `_learning`
tries. A complaint about a value ("max_tokens is too large", "invalid schema") names nothing.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence

from sae_auto_interp.clients.http.json_values import JsonObject, as_count, as_list, as_object

DROPPABLE = (
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "seed",
    "top_logprobs",
    "logprobs",
    "response_format",
)
"""Parameters that a request can do without; the answer is then read as it comes."""
SYSTEM = "system role"
"""Its text can stand in front of the user's."""
SCHEMA = "schema of "
SCHEMA_FIELDS = ("response_format", "structured_outputs", "guided_choice")
FEW_TOKENS = 16
"""Some servers want no smaller bound than this."""
FEW = "few tokens"
_BOUNDS = ("max_tokens", "max_completion_tokens")
_ABOUT_LENGTH = re.compile(r"context|length|too (large|long|many|big)|exceed|at most|less than|or equal", re.IGNORECASE)

_REFUSING = re.compile(
    r"unsupported|not (be )?support|(un|not )(recogni[sz]ed|known|expected)|not permitted|not allowed|deprecated|"
    r"extra_forbidden|not available|does(n't| not) (accept|support)|do(n't| not) support",
    re.IGNORECASE,
)
_ABOUT_A_VALUE = re.compile(r"invalid.{0,20}schema|too (large|small|long|high|low)|at most|at least", re.IGNORECASE)

_ABOUT_THE_WHOLE = re.compile(
    r"context.{0,20}(length|size|window)|(conversation|prompt|input|request|messages?)\b.{0,40}too (long|large)|"
    r"too many (input |prompt )?tokens|max_\w*tokens.{0,40}(too (large|long|high|big)|at most|less than)|"
    r"maximum.{0,30}tokens|credit|quota|billing|balance|rate limit|api.?key",
    re.IGNORECASE,
)


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


def parts_of(body: JsonObject) -> list[str]:
    """What a body for `/chat/completions` can do without, in the order in which it is missed least."""
    if "messages" not in body:
        return ["temperature"] if "temperature" in body else []
    parts = [schema_kind(as_object(body[name])) for name in SCHEMA_FIELDS if name in body][:1]
    if any(as_object(message).get("role") == "system" for message in as_list(body["messages"])):
        parts.append(SYSTEM)
    parts += [name for name in ("logprobs", "seed") if name in body]
    if as_count(body.get("max_tokens")) < FEW_TOKENS and "max_tokens" in body:
        parts.append(FEW)
    parts += [name for name in ("temperature", "max_tokens") if name in body]
    return parts + (["max_completion_tokens"] if "max_tokens" in body else [])


def schema_kind(schema: JsonObject) -> str:
    """A name for all schemas of the same keywords and types, whatever their names, values and lengths.

    >>> schema_kind({"type": "array", "maxItems": 7})
    'schema of array+maxItems+type'
    """
    words: set[str] = set()
    _collect_words(schema, words)
    return SCHEMA + "+".join(sorted(words))


def by_mention(parts: Sequence[str], said: str) -> list[str]:
    """The parts that may be tried, those that the words speak of first.

    A bound on tokens is not given up over a complaint that something is too long.
    """
    kept = [part for part in parts if not (part in _BOUNDS and _ABOUT_LENGTH.search(said))]
    return sorted(kept, key=lambda part: not re.search(_speaks_of(part), said, re.IGNORECASE))


def without_refused(body: JsonObject, refused: Collection[str]) -> dict[str, object]:
    """The body with what the server takes: `max_tokens` goes by its newer name before it is left out."""
    if not refused:
        return dict(body)
    left = dict(body)
    if SYSTEM in refused and "messages" in left:
        left["messages"] = without_system(as_list(left["messages"]))
    for name in SCHEMA_FIELDS:
        if name in left and schema_kind(as_object(left[name])) in refused:
            del left[name]
    if FEW in refused and "max_tokens" in left and "messages" in left:
        left["max_tokens"] = max(FEW_TOKENS, as_count(left["max_tokens"]))
    if "max_tokens" in refused and "max_tokens" in left:
        left["max_completion_tokens"] = left.pop("max_tokens")
    if "prompt" in left:  # a rating is nothing without them
        refused = set(refused) - {"logprobs", "top_logprobs"}
    if "logprobs" in refused:
        left.pop("top_logprobs", None)
    return {name: value for name, value in left.items() if name not in refused}


def without_system(messages: Sequence[object]) -> list[JsonObject]:
    """The system text in front of the user's first; turns of one role in a row become one, as roles must alternate."""
    turns = [as_object(message) for message in messages]
    system = [str(turn.get("content")) for turn in turns if turn.get("role") == "system"]
    if not system:
        return turns
    others = [dict(turn) for turn in turns if turn.get("role") != "system"]
    first = next((turn for turn in others if turn.get("role") == "user"), None)
    if first is None:
        return [{"role": "user", "content": "\n\n".join(system)}, *others]
    first["content"] = "\n\n".join([*system, str(first.get("content"))])
    merged: list[dict[str, object]] = []
    for turn in others:
        if merged and merged[-1].get("role") == turn.get("role"):
            merged[-1]["content"] = f"{merged[-1]['content']}\n\n{turn['content']}"
        else:
            merged.append(turn)
    return list(merged)


def is_about_no_part(said: str) -> bool:
    """Whether words speak of the length of the prompt, the account or the rate, and of no schema."""
    return bool(_ABOUT_THE_WHOLE.search(said)) and not re.search(_speaks_of(SCHEMA), said, re.IGNORECASE)


def shown_name(part: str) -> str:
    """How a part is named in a message."""
    if part.startswith(SCHEMA):
        return f"answers held to this kind of JSON schema ({part.removeprefix(SCHEMA)})"
    return {SYSTEM: "the role system", FEW: f"max_tokens below {FEW_TOKENS}"}.get(part, part)


def _speaks_of(part: str) -> str:
    if part.startswith(SCHEMA):
        return r"schema|json|items|array|grammar|response.?format|structured|tool"
    return {SYSTEM: r"system|\broles?\b|alternat", FEW: r"token|minimum"}.get(part, re.escape(part))


def _collect_words(schema: object, words: set[str]) -> None:
    """Keywords and types; names of properties, and what may stand in `enum`, are none."""
    for keyword, value in as_object(schema).items():
        if keyword == "json_schema":  # as chat completions wrap it
            _collect_words(as_object(value).get("schema"), words)
            return
        words.add(keyword)
        if keyword == "type":
            words.update([value] if isinstance(value, str) else map(str, as_list(value)))
        inner = as_object(value).values() if keyword in ("properties", "$defs", "definitions") else [value]
        for each in [*inner, *as_list(value)]:
            if keyword not in ("enum", "const", "required", "choice"):
                _collect_words(each, words)


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
