"""What goes to a language model and comes back; `types` re-exports it, which is where to import it from."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Literal


def _named_fields(value: object) -> dict[str, object]:
    """A dataclass as JSON; `dataclasses.asdict` would copy everything first, which takes four times as long."""
    return {name: getattr(value, name) for name in _field_names(type(value))}


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind))


_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_named_fields)


@dataclass(frozen=True, slots=True)
class Usage:
    """What requests cost, as the server counted it."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    n_requests: int = 0
    n_uncounted: int = 0
    """Requests among them whose tokens are not known, and are not in the sums: the server did not count them, or not so
    that it can be believed."""

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.n_requests + other.n_requests,
            self.n_uncounted + other.n_uncounted,
        )


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    temperature: float = 0.0
    max_tokens: int = 500
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One call to a language model. Immutable; `canonical_json` is what a response cache is keyed by."""

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    schema: str | None = None
    """JSON schema of the answer, as JSON text; None leaves the answer free."""
    top_logprobs: int = 0

    def canonical_json(self) -> str:
        return _CANONICAL.encode(self)


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token with its natural-log probability and the alternatives at its position."""

    token: str
    logprob: float
    alternatives: Mapping[str, float] = field(default_factory=lambda: {})


MOST_OF_A_LOGPROB = 1e-3
"""Half precision rounds a log-probability of 0 up to about this."""


def as_logprob(value: object) -> float:
    """The natural-log probability that a server sent: -inf for null, NaN for what is no log-probability.

    None is above 0, beyond rounding; none is infinite otherwise than -inf.

    >>> [as_logprob(value) for value in (-0.5, None, 3, 1e308, float("inf"), 10**400, "0")]
    [-0.5, -inf, nan, nan, nan, nan, nan]
    """
    if value is None:
        return -math.inf
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        number = float(value)
    except OverflowError:  # an integer of 400 digits
        return math.nan
    return math.nan if number > MOST_OF_A_LOGPROB else number


def tokens_of(text: str, tokens: Sequence[TokenLogprob]) -> tuple[TokenLogprob, ...] | None:
    """The tokens that make a text, of all that a server rated; None where it is not among them exactly once.

    Servers rate more than they show: turn marks, thinking that they moved elsewhere, white space that they trimmed. A
    token that lies across a border of the text keeps what is inside.
    """
    joined = "".join(token.token for token in tokens)
    if joined == text:
        return tuple(tokens)
    begin = joined.find(text)
    if not text or begin < 0 or joined.find(text, begin + 1) >= 0:
        return None
    kept: list[TokenLogprob] = []
    end = begin + len(text)
    for token in tokens:
        shown = token.token[max(0, begin) : max(0, end)]
        begin, end = begin - len(token.token), end - len(token.token)
        if shown:
            kept.append(token if shown == token.token else replace(token, token=shown))
    return tuple(kept)


@dataclass(frozen=True, slots=True)
class Response:
    text: str
    usage: Usage
    finish_reason: str
    model: str
    logprobs: tuple[TokenLogprob, ...] | None = None


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """A text whose own tokens a model is to rate; nothing is generated."""

    text: str
    top_logprobs: int = 0
    """Alternatives wanted at each position."""

    def canonical_json(self) -> str:
        return _CANONICAL.encode(self)


@dataclass(frozen=True, slots=True)
class PromptLogprobs:
    """How probable each token of a text was, given those before it."""

    tokens: tuple[TokenLogprob, ...]
    """They concatenate to the text; the first one's log-probability is NaN, as nothing comes before it."""
    usage: Usage
    model: str
