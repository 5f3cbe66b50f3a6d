"""How the answers of a judge's tasks are asked for and read: verdicts in a list, numbers of excerpts, or one number.

A reply that holds no answer of the form asked for is read as None, which becomes a Failure; it is never guessed at.

How sure a model was of each 0 or 1 that it wrote: from the log-probabilities of the tokens at those places.

p = P(1) / (P(0) + P(1)) over the alternatives that the server lists at a verdict's token; delphi does so too.
Spaces, brackets and commas that a tokenizer glues to a digit are taken off first; a label that is not listed beside the
other counts as 0. There is no probability where the server lists neither label or gives no log-probabilities, where the
numbers at that place are no log-probabilities, or where the reply is not among the tokens that the server rated.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from sae_auto_interp.judges._numbers import read_choice, read_numbers
from sae_auto_interp.judges._verdict_lists import Verdicts, read_verdicts
from sae_auto_interp.types import Response, TokenLogprob, as_logprob, tokens_of


@dataclass(frozen=True, slots=True)
class Reading:
    """How the answers to a task are asked for and read."""

    schema: Callable[[int], str] | None
    """JSON schema of an answer about n examples; None where the task wants plain text."""
    read: Callable[[Response, int], Verdicts | None]
    """The verdicts on n examples, exactly n; None where the reply does not hold them."""
    missing: str
    """What a reply without an answer lacks."""
    has_places: bool = True
    """Whether each verdict stands at a place of its own, whose probability can be known."""


def parse_choice(response: Response, n: int) -> int | None:
    """The place, from 0, of the excerpt whose number is chosen: that of `{"choice": 3}`, or a number by itself."""
    number = read_choice(response, n)
    return None if number is None else number - 1


@cache
def verdicts_schema(n: int) -> str:
    verdicts = {"type": "array", "items": {"type": "integer", "enum": [0, 1]}, "minItems": n, "maxItems": n}
    return _object_schema("verdicts", verdicts)


@cache
def choice_schema(n: int) -> str:
    return _object_schema("choice", {"type": "integer", "enum": list(range(1, n + 1))})


def _object_schema(name: str, value: object) -> str:
    schema = {"type": "object", "properties": {name: value}, "required": [name], "additionalProperties": False}
    return json.dumps(schema, sort_keys=True)


VERDICTS = Reading(verdicts_schema, read_verdicts, "no list of {n} verdicts")


NUMBERS = Reading(None, read_numbers, "neither numbers of excerpts nor None", has_places=False)


READINGS = {"saebench": NUMBERS}
"""Tasks whose answers are read otherwise than as a list of verdicts."""


_AROUND = " \t\r\n[]{},\"'"


_MOST_IN_ALL = 1.05
"""Probabilities of one place add up to 1 at most; servers round their logarithms."""


def verdict_probabilities(
    reply: str, tokens: Sequence[TokenLogprob] | None, offsets: Sequence[int]
) -> list[float | None]:
    """P(1) at each character offset of the reply at which a verdict stands.

    >>> listed = [("[", {}), ("1", {"1": -.1, "0": -2.4}), (",", {}), ("0", {"0": -.2, "1": -1.8}), ("]", {})]
    >>> tokens = [TokenLogprob(token, -.1, alternatives) for token, alternatives in listed]
    >>> [round(p, 4) for p in verdict_probabilities('[1,0]', tokens, [1, 3])]
    [0.9089, 0.168]
    """
    shown = None if tokens is None else tokens_of(reply, tokens)
    if shown is None:
        return [None] * len(offsets)
    return [_probability(_token_at(shown, offset)) for offset in offsets]


def _token_at(tokens: Sequence[TokenLogprob], offset: int) -> TokenLogprob | None:
    end = 0
    for token in tokens:
        end += len(token.token)
        if offset < end:
            return token
    return None


def _probability(token: TokenLogprob | None) -> float | None:
    if token is None:
        return None
    listed = {
        text: as_logprob(logprob) for text, logprob in (token.alternatives or {token.token: token.logprob}).items()
    }
    if any(map(math.isnan, listed.values())) or sum(map(math.exp, listed.values())) > _MOST_IN_ALL:
        return None
    weights = {"0": 0.0, "1": 0.0}
    labels: set[str] = set()
    for text, logprob in listed.items():
        label = text.strip(_AROUND)
        if label in weights:
            labels.add(label)
            weights[label] += math.exp(logprob)
    chosen = token.token.strip(_AROUND)
    if chosen in labels and not weights[chosen] > 0:  # it has no number, or what was written cannot have been
        return None
    total = weights["0"] + weights["1"]
    return weights["1"] / total if total > 0 else None
