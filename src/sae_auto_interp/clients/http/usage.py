"""What a server says that an answer took, as far as it can be believed.

A count that is absent, of another name, negative, no whole number or above any context length says nothing: the usage
is then `UNCOUNTED`, and whoever charges for it takes the most that it can be. What is not known is never 0.
"""

from collections.abc import Sequence

from sae_auto_interp.clients.http.json_values import JsonObject, as_list, as_object
from sae_auto_interp.errors import MalformedReplyError
from sae_auto_interp.types import Usage

MOST_TOKENS = 1 << 24
"""Most tokens believed of one prompt or answer: more than the longest context served anywhere (ten million)."""
UNCOUNTED = Usage(n_requests=1, n_uncounted=1)


def chat_usage(reply: JsonObject) -> Usage:
    """Return the usage of an answer in OpenAI's form."""
    said = as_object(reply.get("usage"))
    message = as_object(as_object(next(iter(as_list(reply.get("choices"))), None)).get("message"))
    return _usage(said.get("prompt_tokens"), said.get("completion_tokens"), has_text=bool(message.get("content")))


def reading_usage(reply: JsonObject) -> Usage:
    """Return the usage of a rated text, in OpenAI's form; the one token that is asked for beside it may go without a
    count."""
    said = as_object(reply.get("usage"))
    return _usage(said.get("prompt_tokens"), said.get("completion_tokens", 1), has_text=False)


def messages_usage(reply: JsonObject) -> Usage:
    """Return the usage of Anthropic's answer; tokens read from or written to its prompt cache count as prompt."""
    said = as_object(reply.get("usage"))
    cached = [said.get(f"cache_{done}_input_tokens") for done in ("creation", "read")]
    prompt = _sum([said.get("input_tokens"), *(count for count in cached if count is not None)])
    return _usage(prompt, said.get("output_tokens"), has_text=bool(reply.get("content")))


def malformed(message: str, usage: Usage) -> MalformedReplyError:
    """The error for a whole answer without what was asked for; what it took is charged."""
    if usage.n_uncounted:
        return MalformedReplyError(message)
    return MalformedReplyError(message, prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)


def _usage(prompt: object, completion: object, *, has_text: bool) -> Usage:
    """A prompt takes one token at least, and so does a text."""
    prompt_tokens, completion_tokens = _count(prompt), _count(completion)
    if not prompt_tokens or completion_tokens is None or (has_text and not completion_tokens):
        return UNCOUNTED
    return Usage(prompt_tokens, completion_tokens, n_requests=1)


def _sum(counts: Sequence[object]) -> int | None:
    known = [_count(count) for count in counts]
    return None if None in known else sum(count for count in known if count is not None)


def _count(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= MOST_TOKENS else None
