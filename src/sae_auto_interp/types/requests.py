"""What goes to a language model and comes back; `types` re-exports it, which is where to import it from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
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

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.n_requests + other.n_requests,
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
