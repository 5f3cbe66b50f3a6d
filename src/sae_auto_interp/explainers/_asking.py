"""One request for one feature, and its reply as an explanation or a typed failure: what explainers with a client do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sae_auto_interp.errors import ClientError, ConfigError
from sae_auto_interp.prompting.asking import answered
from sae_auto_interp.prompting.prompts import Prompt, conversation_id
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Explanation, Failure, FeatureId, Request, Response

ANSWER_MARK = "[EXPLANATION]:"


@dataclass(frozen=True, slots=True)
class Reading:
    """How a reply is read."""

    explainer: str
    prompts: Sequence[Prompt]
    parse: Callable[[str], str | None]
    expected: str
    """What a reply must hold, for the message of a failure."""


async def ask(client: Client, feature: FeatureId, request: Request, reading: Reading) -> Explanation | Failure:
    """The explanation that is answered; a server's or a parser's trouble comes back as a Failure."""
    try:
        response = await answered(client, request, lambda response: reading.parse(response.text) is not None)
    except ClientError as error:
        return Failure("explain", error.kind, str(error))
    text = reading.parse(response.text)
    if text is None:
        return Failure("explain", "unparsable", _complaint(response, request, reading.expected), response.text)
    return Explanation(feature, text, reading.explainer, conversation_id(reading.prompts), response.usage)


def after_mark(reply: str, mark: str = ANSWER_MARK) -> str | None:
    r"""The text after the last mark, or None when there is none or it is empty.

    >>> after_mark("x [EXPLANATION]: foo \n")
    'foo'
    """
    _, found, text = reply.rpartition(mark)
    return (text.strip() or None) if found else None


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


def _complaint(response: Response, request: Request, expected: str) -> str:
    if response.finish_reason == "length":
        return f"the reply was cut off at max_tokens={request.sampling.max_tokens}, before {expected}"
    return f"the reply has no {expected}"
