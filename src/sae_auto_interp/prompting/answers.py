"""Which of the values in a reply is the answer. What is not understood is no answer, and nothing is guessed at.

The key that was asked for wins: its last value, in an object that stands alone. Words behind such an object change
nothing. Without the key a value counts if all that stand alone say the same, or one is called the answer. Of a reply
that was cut off only an object with the key counts, and only if it is closed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from sae_auto_interp.prompting.json_in_text import Found, Value, found_values
from sae_auto_interp.prompting.labels import LabelKind, is_answer_name, label_kind
from sae_auto_interp.types import Response

T = TypeVar("T")
Labelled: TypeAlias = tuple[LabelKind, T | None]
"""What one part of a reply says, None where it cannot be read, and what its label says of it."""

_CUT_OFF = {"length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"}
_STOPPED = {"content_filter", "safety", "recitation", "refusal", "error", "abort", "cancelled", "incomplete"}
_MAY_FOLLOW = ".!;("
"""Begins what may stand behind an answer on its line."""


def is_cut_off(response: Response) -> bool:
    """Whether the reply ends because there was no room for more tokens."""
    return response.finish_reason.casefold() in _CUT_OFF


def is_whole(response: Response) -> bool:
    """Whether the model ended the reply itself, as far as is known."""
    return response.finish_reason.casefold() not in _CUT_OFF | _STOPPED


@dataclass(frozen=True, slots=True)
class AnswerForm(Generic[T]):
    """How an answer is asked for, and how it may be given instead."""

    read: Callable[[Value], T | None]
    """The answer that a value is. Equal answers are equal."""
    key: str | None = None
    """Key of the object that was asked for; None where plain text was."""
    names: frozenset[str] = frozenset()
    """Words that, in a label, announce an answer of this form, besides those that always do."""
    of_text: Callable[[str], T | None] = lambda _: None
    """The answer of a reply whose values in brackets are none."""
    brackets: str = "[{"
    """What an answer without the key may begin with."""

    def answer(self, response: Response) -> T | None:
        """The answer of a reply; None where it has none that is understood."""
        found = found_values(response.text)
        whole = is_whole(response)
        keyed = [] if self.key is None else [*self._keyed(found, self.key, whole)]
        if keyed:
            return last_answer(keyed)
        if not whole:
            return None
        bare = [labelled for each in found for labelled in self._bare(each, response.text)]
        if bare or (self.key is not None and any(_under(each.value, self.key) is not None for each in found)):
            return agreed(bare)  # an object with the key that is no answer is none as plain text either
        return self.of_text(response.text)

    def _keyed(self, found: Iterable[Found], key: str, may_be_named: bool) -> Iterable[Labelled[T]]:
        for each in found:
            value = _under(each.value, key)
            if value is None:
                continue
            label = label_kind(each.before, "", self.names)
            if label != "talk" and (label != "named" or may_be_named):
                yield label, self.read(value)

    def _bare(self, found: Found, text: str) -> Iterable[Labelled[T]]:
        """A value without the key that may be the answer; nothing where it is part of a sentence, or something else."""
        if text[found.value.begin] not in self.brackets:
            return
        answer, is_named = self._read_unkeyed(found.value)
        if answer is None and not is_named and not found.value.items:
            return
        label = label_kind(found.before, found.after, self.names)
        if label == "none" and is_named:
            label = "answer"
        is_alone = label != "talk" and (not found.after or found.after[0] in _MAY_FOLLOW)
        if is_alone and (answer is not None or label in ("answer", "final")):
            yield label, answer

    def _read_unkeyed(self, value: Value) -> tuple[T | None, bool]:
        """What a value is read as, and whether a key of its own calls it the answer."""
        named = [item for name, item in zip(value.keys, value.items, strict=False) if is_answer_name(name, self.names)]
        if len(named) == 1:
            return self.read(named[0]), True
        return self.read(value), False


def agreed(answers: Sequence[Labelled[T]]) -> T | None:
    """The one that is called final or the answer; else the one that all are. None where they disagree."""
    stated = [(label, answer) for label, answer in answers if label != "named"]
    if not stated:
        return None
    label, last = stated[-1]
    if label == "final":
        return last
    others = [answer for other, answer in answers if other in ("answer", "final") or label == "none"]
    return last if all(other is None or other == last for other in others) else None


def last_answer(answers: Sequence[Labelled[T]]) -> T | None:
    """The last one, unless it is called something of its own and another says otherwise."""
    label, last = answers[-1]
    return last if label != "named" or all(other == last for _, other in answers[:-1]) else None


def _under(value: Value, key: str) -> Value | None:
    """The key's last value in an object, or in one that is its only item or is called the answer there."""
    own = value.get(key)
    if own is not None or not value.items:
        return own
    if value.kind == "list":
        return _under(value.items[0], key) if len(value.items) == 1 else None
    inner = [item for name, item in zip(value.keys, value.items, strict=True) if is_answer_name(name)]
    return _under(inner[-1], key) if inner else None
