"""Texts that a language model writes for a feature, and trials of whether the feature fires on them.

Asked for n texts, a model may give fewer, the same twice, or none: each text that is lacking is a failure, so that a
share of those that fire is never a share of fewer than were asked for without saying so.
"""

import json
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

from sae_auto_interp.errors import ClientError
from sae_auto_interp.prompting.asking import answered
from sae_auto_interp.protocols import ActivationReader, Client
from sae_auto_interp.types import (
    NO_DOCUMENT,
    Failure,
    FeatureRecord,
    Request,
    TextActivations,
    Trial,
    Usage,
)

TOKENS_PER_TEXT = 80
"""Room in the answer for one text."""
Written: TypeAlias = str | Failure


async def write(client: Client, request: Request, n: int) -> tuple[list[Written], Usage]:
    """`n` texts, or a failure in the place of each that is lacking."""
    try:
        response = await answered(client, request, lambda reply: _is_whole(parse_texts(reply.text), n))
    except ClientError as error:
        return [Failure("score", error.kind, str(error))] * n, Usage(n_requests=1)
    texts = parse_texts(response.text)
    if texts is None:
        cut = ": it was cut off; raise max_tokens" if response.finish_reason == "length" else ""
        failure = Failure("score", "unparsable", f"the reply holds no JSON list of texts{cut}", response.text)
        return [failure] * n, response.usage
    return _checked(texts, n), response.usage


def parse_texts(reply: str) -> list[str] | None:
    """The outermost list of a reply, where it is one of strings."""
    begin, end = reply.find("["), reply.rfind("]")
    try:
        found: Any = json.loads(reply[begin : end + 1])
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list):
        return None
    texts = [text for text in cast("list[object]", found) if isinstance(text, str)]
    return texts if len(texts) == len(cast("list[object]", found)) else None


def texts_schema(n: int) -> str:
    """JSON schema of `n` texts."""
    texts = {"type": "array", "items": {"type": "string"}, "minItems": n, "maxItems": n}
    schema = {
        "type": "object", "properties": {"texts": texts}, "required": ["texts"], "additionalProperties": False,
    }  # fmt: skip
    return json.dumps(schema, sort_keys=True)


async def trials_of(
    reader: ActivationReader, record: FeatureRecord, written: Sequence[tuple[Written, bool]], threshold: float
) -> tuple[Trial, ...]:
    """One trial per text, in order; the flag says whether the feature is to fire on it.

    It fires where its largest activation is above `threshold` times the feature's largest. All texts are read at once.
    """
    texts = [text for text, _ in written if isinstance(text, str)]
    found = iter(await reader.activations(texts, record.feature) if texts else ())
    largest = record.stats.max_activation
    return tuple(
        _failed(text, target) if isinstance(text, Failure) else _trial(next(found), target, largest, threshold)
        for text, target in written
    )


def _is_whole(texts: Sequence[str] | None, n: int) -> bool:
    """Whether a reply has all the texts that were asked for."""
    return texts is not None and not any(isinstance(text, Failure) for text in _checked(texts, n))


def _checked(texts: Sequence[str], n: int) -> list[Written]:
    """The first `n` texts, each once."""
    seen: set[str] = set()
    checked: list[Written] = []
    for text in texts[:n]:
        key = " ".join(text.split()).casefold()
        if not key:
            checked.append(Failure("score", "empty_text", "a text of the reply is empty"))
        elif key in seen:
            checked.append(Failure("score", "duplicate_text", "a text of the reply is there twice", text))
        else:
            checked.append(text)
        seen.add(key)
    missing = Failure("score", "missing_text", f"the reply has {len(texts)} of the {n} texts asked for")
    return checked + [missing] * (n - len(checked))


def _trial(found: TextActivations, target: bool, largest: float, threshold: float) -> Trial:
    """`confidence` is the text's largest activation as a share of the feature's."""
    peak = float(found.activations.max(initial=0.0))
    share = round(peak / largest, 6) if largest > 0 else peak
    return Trial(target, peak > threshold * largest, share, "generated", None, NO_DOCUMENT)


def _failed(failure: Failure, target: bool) -> Trial:
    return Trial(target, None, None, "generated", None, NO_DOCUMENT, failure)
