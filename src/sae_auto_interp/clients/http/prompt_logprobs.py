"""How servers rate the tokens of a given text: PromptRequest -> body of `/completions`, its answer -> PromptLogprobs.

    prompt_logprobs   vLLM: one mapping {token id: {logprob, decoded_token}} per position, its own token first
    echo              the completions API of old: the prompt comes back in front of the answer, with its logprobs

A token to be generated is asked for, since many servers refuse none; it is cut off again. Servers put a token for the
beginning in front, which is no part of the text: it is cut off too, and the first token of the text is not rated.
"""

import math
from collections.abc import Mapping, Sequence

from sae_auto_interp.clients.http.capabilities import PromptLogprobsBy
from sae_auto_interp.clients.http.failures import Quote
from sae_auto_interp.clients.http.json_values import JsonObject, as_list, as_object
from sae_auto_interp.clients.http.usage import malformed, reading_usage
from sae_auto_interp.types import PromptLogprobs, PromptRequest, TokenLogprob, as_logprob

_UNCLEAR = "�"
"""Servers print a token that is part of a character as this."""
_LONGEST_TOKEN = 256
"""In characters; vocabularies have runs of as many spaces."""


def encode_reading(request: PromptRequest, model: str, by: PromptLogprobsBy) -> dict[str, object]:
    """Return the body of a completion request that reads a text's log-probabilities and writes one token."""
    body: dict[str, object] = {"model": model, "prompt": request.text, "max_tokens": 1, "temperature": 0.0}
    if by == "echo":
        return body | {"echo": True, "logprobs": max(1, request.top_logprobs)}
    return body | {"prompt_logprobs": request.top_logprobs}


def decode_reading(
    reply: JsonObject, request: PromptRequest, model: str, by: PromptLogprobsBy, quote: Quote
) -> PromptLogprobs:
    """Read a rating; raises MalformedReplyError where it is none of the whole text."""
    choice = as_object(next(iter(as_list(reply.get("choices"))), None))
    rated = _echoed(choice) if by == "echo" else _prompt_logprobs(choice, reply)
    tokens = _placed(rated, request.text)
    usage = reading_usage(reply)
    if tokens is None:
        seen = quote("".join(token.token for token in rated)) or "nothing"
        raise malformed(f"the answer does not rate the tokens of the text that was sent, but: {seen}", usage)
    answered = reply.get("model")
    return PromptLogprobs(
        tokens=tokens,
        usage=usage,
        model=answered if isinstance(answered, str) and answered else model,
    )


def place_tokens(text: str, pieces: Sequence[str]) -> list[str] | None:
    """What each token covers of the text, all of it; None where they do not.

    Of several tokens that make one character, the first covers it and the others nothing.

    >>> place_tokens("a é.", ["a", " ", "�", "�", "."])
    ['a', ' ', 'é', '', '.']
    """
    covered: list[str] = []
    at = 0
    for i, piece in enumerate(pieces):
        if _UNCLEAR not in piece:
            if not text.startswith(piece, at):
                return None
            end = at + len(piece)
        elif i > 0 and _UNCLEAR in pieces[i - 1]:
            end = at  # the first unclear one took it all
        else:
            following = next((p for p in pieces[i + 1 :] if _UNCLEAR not in p), None)
            end = len(text) if following is None else text.find(following, at + 1)
            if end < 0:
                return None
        covered.append(text[at:end])
        at = end
    return covered if at == len(text) else None


def _placed(rated: Sequence[TokenLogprob], text: str) -> tuple[TokenLogprob, ...] | None:
    """The tokens of the text alone: without one before it (beginning of text) or behind it (generated)."""
    for tokens in (rated, rated[:-1], rated[1:], rated[1:-1]):
        covered = place_tokens(text, [token.token for token in tokens])
        if covered and covered[0]:
            return _unrated_first(covered, tokens)
    if not rated or rated[0].token:
        return None
    for end in range(1, min(len(text), _LONGEST_TOKEN) + 1):  # the server does not say what its first token is
        covered = place_tokens(text[end:], [token.token for token in rated[1:]])
        if covered is not None:
            return _unrated_first([text[:end], *covered], rated)
    return None


def _unrated_first(covered: Sequence[str], tokens: Sequence[TokenLogprob]) -> tuple[TokenLogprob, ...] | None:
    """None where a token of the text has no number."""
    if any(math.isnan(token.logprob) for token in tokens[1:]):
        return None
    rest = zip(covered[1:], tokens[1:], strict=True)
    return (TokenLogprob(covered[0], math.nan), *(TokenLogprob(text, t.logprob, t.alternatives) for text, t in rest))


def _echoed(choice: JsonObject) -> list[TokenLogprob]:
    logprobs = as_object(choice.get("logprobs"))
    pieces = [piece for piece in as_list(logprobs.get("tokens")) if isinstance(piece, str)]
    values = as_list(logprobs.get("token_logprobs"))
    tops = as_list(logprobs.get("top_logprobs")) or [None] * len(values)
    if not len(pieces) == len(values) == len(tops):
        return []
    return [TokenLogprob(p, _number(v), _numbers(as_object(t))) for p, v, t in zip(pieces, values, tops, strict=True)]


def _prompt_logprobs(choice: JsonObject, reply: JsonObject) -> list[TokenLogprob]:
    """vLLM has them in the choice; its chat API beside the choices."""
    listed = as_list(choice.get("prompt_logprobs")) or as_list(reply.get("prompt_logprobs"))
    return [TokenLogprob("", math.nan)] * min(1, len(listed)) + [_position(as_object(entry)) for entry in listed[1:]]


def _position(entries: JsonObject) -> TokenLogprob:
    """The token that stands there is listed first, whatever its rank; the others are the likeliest."""
    listed = [as_object(entry) for entry in entries.values()]
    named = {str(entry.get("decoded_token", "")): as_logprob(entry.get("logprob")) for entry in listed}
    own = listed[0] if listed else as_object(None)
    return TokenLogprob(str(own.get("decoded_token", "")), _number(own.get("logprob")), named)


def _numbers(values: Mapping[str, object]) -> dict[str, float]:
    return {name: as_logprob(value) for name, value in values.items()}


def _number(value: object) -> float:
    """The log-probability of a token of the text: null is none at all, as servers write it for the first."""
    return math.nan if value is None else as_logprob(value)
