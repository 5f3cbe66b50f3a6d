"""What a model's reply says a feature fires on: `{"explanation": "..."}`, or a line of the form that was asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from sae_auto_interp.prompting.answers import Labelled, last_answer
from sae_auto_interp.prompting.explanations import NoExplanation, why_no_explanation, words_and_signs
from sae_auto_interp.prompting.json_in_text import found_values
from sae_auto_interp.prompting.labels import label_kind
from sae_auto_interp.prompting.marked_lines import Found, plain

KEY = "explanation"
LEAST_ECHO_WORDS = 5
"""Fewer words in a row may be the same as in the instructions by chance."""
_NAMES = frozenset({KEY, "sentence"})
_JSON_WORDS = frozenset({"true", "false"})
_SAID_INSTEAD = ("refusal", "error_text", "no_finding")
"""What a reply without an explanation may be as a whole."""
Parse: TypeAlias = Callable[[str], Found | None]
"""Finds the text of an explainer's own form in a reply."""


@dataclass(frozen=True, slots=True)
class NotRead:
    """Why a reply gives no explanation."""

    kind: str
    """`unparsable`, `cut_off`, `echo`, or a kind of `NoExplanation`."""
    message: str


def read_explanation(
    reply: str, parse: Parse, *, expected: str, is_cut_off: bool = False, told: Sequence[str] = (), form: str = ""
) -> str | NotRead:
    """The explanation in a reply, or why there is none.

    `parse` reads the explainer's own form, of which `expected` is the name; `told` is what the model was told, which it
    may only have repeated, and `form` the words of its schema, which end in what stands for the explanation there. A
    reply that was cut off counts where its JSON object is complete.
    """
    in_json, by_form = json_explanation(reply), parse(reply)
    if in_json is not None and (by_form is None or by_form.start < in_json.end):
        repeated = parse(in_json.text)
        text = repeated.text if repeated is not None and repeated.start <= 1 else in_json.text
    elif is_cut_off:
        return NotRead("cut_off", f"the reply was cut off, before or within its {expected}")
    elif by_form is not None:
        text = by_form.text
    else:
        why = why_no_explanation(reply) if reply.strip() else None
        if why is None or why.kind not in _SAID_INSTEAD:
            return NotRead("unparsable", f"the reply has no {expected}")
        return _not_read(why)
    return _checked(text.strip(), told, form)


@dataclass(frozen=True, slots=True)
class InJson:
    """A text that was read from a JSON object, and where that object ends in the reply."""

    text: str
    end: int = field(compare=False)


def json_explanation(reply: str) -> InJson | None:
    r"""The text under the last key `explanation` of an object that may be the answer; None where there is none.

    An example, a draft and what is denied is no answer, and objects that are called different things must agree.

    >>> json_explanation('```json\n{"explanation": "dogs"}\n```').text
    'dogs'
    """
    stated: list[Labelled[InJson]] = []
    for found in found_values(reply):
        value = found.value.get(KEY) if found.value.kind == "object" else None
        label = label_kind(found.before, "", _NAMES) if value is not None and found.stands_alone else "talk"
        if value is not None and label != "talk":
            is_text = value.kind == "string" or (value.kind == "word" and value.text not in _JSON_WORDS)
            text = plain(" ".join(value.text.split()))
            stated.append((label, InJson(text, found.value.end) if is_text else None))
    return last_answer(stated) if stated else None


def _checked(text: str, told: Sequence[str], form: str) -> str | NotRead:
    why = why_no_explanation(text)
    if why is not None:
        return _not_read(why)
    words = _words(text)
    if _is_echo(text, told) or (words and _words(form)[-len(words) :] == words):
        return NotRead("echo", f"the reply repeats what the prompt says: {text[:80]!r}")
    return text


def _is_echo(text: str, told: Sequence[str]) -> bool:
    words = _words(text)
    if len(words) < LEAST_ECHO_WORDS:
        return False
    wanted = f" {' '.join(words)} "
    return any(wanted in f" {' '.join(_words(part))} " for part in told)


def _words(text: str) -> list[str]:
    return [token for token in words_and_signs(text.lower()) if token[0].isalnum()]


def _not_read(why: NoExplanation) -> NotRead:
    return NotRead(why.kind, why.message)
