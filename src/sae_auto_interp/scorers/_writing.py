"""Texts that a language model writes for a feature, and trials of whether the feature fires on them.

Asked for n texts, a model may give fewer, the same twice, or none: each text that is lacking is a failure, so that a
share of those that fire is never a share of fewer than were asked for without saying so.
"""

import json
from collections.abc import Sequence
from typing import TypeAlias

from sae_auto_interp.errors import ClientError
from sae_auto_interp.prompting.answers import AnswerForm, is_cut_off
from sae_auto_interp.prompting.asking import answered, unanswered
from sae_auto_interp.prompting.json_in_text import Value
from sae_auto_interp.prompting.numbered import numbered_items, split_label
from sae_auto_interp.prompting.surroundings import COLONS, placed_lines
from sae_auto_interp.protocols import ActivationReader, Client
from sae_auto_interp.types import (
    NO_DOCUMENT,
    Failure,
    FeatureRecord,
    Request,
    Response,
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
        response = await answered(client, request, lambda reply: _is_whole(parse_texts(reply, n), n))
    except ClientError as error:
        return [unanswered(error, "the scorer's spare_tokens")] * n, Usage(n_requests=1)
    texts = parse_texts(response, n)
    if texts is None:
        cut = ": it was cut off; raise the scorer's spare_tokens" if is_cut_off(response) else ""
        failure = Failure("score", "unparsable", f"the reply holds no JSON list of texts{cut}", response.text)
        return [failure] * n, response.usage
    return _checked(texts, n), response.usage


def parse_texts(response: Response, n: int) -> list[str] | None:
    """The texts of `{"texts": [...]}`, of a list of strings that stands alone, or of lines numbered 1 to `n`."""
    form = AnswerForm(read=lambda value: _texts(value, n), key="texts", of_text=lambda text: _numbered(text, n))
    texts = form.answer(response)
    return None if texts is None else list(texts)


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


def _texts(value: Value, n: int) -> tuple[str, ...] | None:
    """The strings of a list, of one under any name, or of an object that numbers them."""
    value = value.items[0] if value.kind == "object" and len(value.items) == 1 else value
    items = value.items if value.kind == "list" else numbered_items(value, n)
    if items is None or not all(item.kind == "string" for item in items):
        return None
    return tuple(item.text for item in items)


def _numbered(text: str, n: int) -> tuple[str, ...] | None:
    """Lines that begin with the numbers 1 to `n` in their order; before them only a heading may stand."""
    lines = [line.strip() for _, line in placed_lines(text) if line.strip()]
    if len(lines) == n + 1 and lines[0].endswith(tuple(COLONS)):
        del lines[0]
    labelled = [split_label(line, n) for line in lines]
    if [number for number, _ in filter(None, labelled)] != [*range(1, n + 1)] or len(lines) != n:
        return None
    return tuple(_unquoted(rest.strip()) for _, rest in filter(None, labelled))


def _unquoted(text: str) -> str:
    """A text without what sets it off on its line: the end of its label's emphasis, its own, and quotes."""
    if text.startswith("**") and text.count("**") % 2:  # that of `**Text 1:** a dog`
        text = text[2:].lstrip()
    for mark in ("**", '"', "'"):
        inside = text[len(mark) : -len(mark)]
        if inside and text.startswith(mark) and text.endswith(mark) and mark not in inside:
            text = inside
    return text


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
