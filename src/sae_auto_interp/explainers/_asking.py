"""One request for one feature, and its reply as an explanation or a typed failure: what explainers with a client do.

What explainers show of a record: some of its examples, from the strongest to the weakest, as text.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sae_auto_interp.errors import ConfigError, NotStoredError
from sae_auto_interp.prompting.answers import is_cut_off, is_whole
from sae_auto_interp.prompting.asking import answered
from sae_auto_interp.prompting.explanation_replies import KEY, NotRead, Parse, read_explanation
from sae_auto_interp.prompting.highlights import highlighted_tokens, marked_text
from sae_auto_interp.prompting.prompts import Prompt, conversation_id, load_prompt
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Example, Explanation, Failure, FeatureId, Request, Response

ANSWER_MARK = "[EXPLANATION]:"


JSON_ANSWER = "the sentence"


JSON_PROMPT = "as_json"
"""What the schema of an answer says in words."""


MOST_CHARACTERS = 400
"""Longest explanation that the schema allows: small models go on and on otherwise, until the answer is cut off."""


MARKED_LINE = f"line '{ANSWER_MARK} ...'"


@dataclass(frozen=True, slots=True)
class Reading:
    """How a reply is read."""

    explainer: str
    prompts: Sequence[Prompt]
    parse: Parse
    """Finds the explanation in the form that the prompt asks for; an answer in JSON is read besides."""
    expected: str
    """What a reply must hold, for the message of a failure."""


def answer_schema(answer: str) -> str:
    """The JSON schema of `{"explanation": "..."}`. Its description asks for that in words, with `answer` as the form of
    the text; clients say it where the endpoint holds answers to a schema (`clients/_schema_words`), and leave both out
    elsewhere: then the line that the prompt asks for is the answer."""
    return json.dumps(
        {
            "type": "object",
            "description": load_prompt("explainers", JSON_PROMPT).fill(explanation=answer),
            "properties": {KEY: {"type": "string", "maxLength": MOST_CHARACTERS}},
            "required": [KEY],
            "additionalProperties": False,
        }
    )


async def answer_to(client: Client, request: Request, reading: Reading) -> tuple[Response, Request]:
    """The reply to a request, asked again where that is opened and it cannot be read; and what was asked.

    Raises `ClientError` subclasses, as the client does.
    """

    def is_readable(response: Response) -> bool:
        return isinstance(_read(response, request, reading), str)

    try:
        return await answered(client, request, is_readable), request
    except NotStoredError:  # nobody is to be asked: perhaps an older version asked, which sent no schema
        if request.schema is None:
            raise
    request = replace(request, schema=None)
    return await answered(client, request, is_readable), request


def explained(feature: FeatureId, response: Response, request: Request, reading: Reading) -> Explanation | Failure:
    """The explanation in a reply, or the Failure that says why there is none."""
    text = _read(response, request, reading)
    if isinstance(text, NotRead):
        return Failure("explain", text.kind, text.message, response.text)
    return Explanation(feature, text, reading.explainer, _prompt_id(reading, request), response.usage)


def _prompt_id(reading: Reading, request: Request) -> str:
    """The id of what was asked, the words of its schema included."""
    words = [] if request.schema is None else [load_prompt("explainers", JSON_PROMPT)]
    return conversation_id([*reading.prompts, *words])


def _read(response: Response, request: Request, reading: Reading) -> str | NotRead:
    told = [message.content for message in request.messages[:-1]]
    read = read_explanation(
        response.text,
        reading.parse,
        expected=reading.expected,
        is_cut_off=not is_whole(response),
        told=told,
        form="" if request.schema is None else str(json.loads(request.schema).get("description", "")),
    )
    if isinstance(read, NotRead) and read.kind == "cut_off" and not is_cut_off(response):
        return replace(read, message=f"{read.message}: the endpoint ended it ({response.finish_reason[:40]!r})")
    if isinstance(read, NotRead) and read.kind == "cut_off":
        return replace(read, message=f"{read.message}, at max_tokens={request.sampling.max_tokens}: raise it")
    return read


def check_counts(explainer: str, **counts: int) -> None:
    """Raise `ConfigError` for a count below 1."""
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"explainers.{explainer}.{name}={value}; give at least 1")


def check_fraction(explainer: str, name: str, value: float) -> None:
    """Raise `ConfigError` for what is no fraction of a maximum."""
    if not 0 <= value < 1:
        raise ConfigError(f"explainers.{explainer}.{name}={value}; give a fraction from 0 to below 1")


def nothing_to_show(feature: FeatureId, what: str = "training examples") -> Failure:
    """Why a feature without examples is not explained."""
    return Failure("explain", "no_examples", f"{feature} has no {what}")


def no_strings(feature: FeatureId) -> Failure:
    """Why a feature whose examples are token ids alone is not explained."""
    return Failure("explain", "no_text", f"{feature}: the examples carry no strings; cache with a tokenizer")


def strongest_first(examples: Sequence[Example], n: int) -> list[Example]:
    """At most `n` examples, evenly from the strongest to the weakest."""
    ordered = sorted(examples, key=lambda example: -example.max_activation)
    chosen = np.unique(np.linspace(0, len(ordered) - 1, min(n, len(ordered))).round().astype(int))
    return [ordered[i] for i in chosen]


def marked(example: Example, threshold: float, delimiters: tuple[str, str]) -> str:
    """The example's text with marks on tokens above `threshold` of its maximum."""
    fires: list[bool] = highlighted_tokens(example.activations, threshold).tolist()
    return marked_text(example.str_tokens, fires, delimiters)


def peak(example: Example) -> int:
    """Where the feature is strongest; of equal activations the first."""
    return int(example.activations.argmax())


def without_text(examples: Sequence[Example]) -> bool:
    """Whether an example carries no strings: a record of a cache without a vocabulary cannot be shown."""
    return not all(example.str_tokens for example in examples)
