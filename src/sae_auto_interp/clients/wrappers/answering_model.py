"""Which model answered, where that is another one than was asked for.

A proxy may send requests on, and a server with one model may answer to any name. A name is the same in other writing:
with its provider or folder in front, in capitals, with a date, a version or a tag behind it.
"""

import itertools
import re
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field

from sae_auto_interp.clients.wrappers.wrapper import AnswerT, Ask, Question, Wrapper
from sae_auto_interp.protocols import Client

_TAG = r"latest|preview|exp|experimental|beta|stable"
_TAGS = re.compile(rf"(?:(?:{_TAG})(?:-|$))*")
_VERSION = re.compile(
    rf"(?:(?:20\d\d-\d\d-\d\d|\d\d-20\d\d|\d\d-\d\d|\d{{3,}}|{_TAG}|"
    r"gguf|awq|gptq|fp\d+|bf\d+|int\d+|\d+bit|i?q\d\w*(?:-[0-9a-z])*)(?:-|$))*"
)
"""Dates, numbers of builds, and how weights are packed; a single digit is of another model (gpt-4, gpt-4.1)."""


def is_same_model(asked: str, answered: str) -> bool:
    """Whether two names may be of one model.

    >>> is_same_model("openai/gpt-4o", "gpt-4o-2024-08-06"), is_same_model("gpt-4o", "gpt-4o-mini")
    (True, False)
    """
    ours, theirs = _parts(asked), _parts(answered)
    return any(_is_same(ours[-1], each) for each in theirs) or any(_is_same(each, theirs[-1]) for each in ours)


@dataclass(frozen=True, eq=False)
class AnsweringModels(Wrapper):
    """Tells once of each name that is not that of the wrapped client's model."""

    client: Client
    _: KW_ONLY
    tell: Callable[[str], None] = field(repr=False)
    """Is given the name."""
    _seen: set[str] = field(default_factory=set[str], init=False, repr=False)

    async def _around(self, question: Question, ask: Ask[AnswerT]) -> AnswerT:
        answer = await ask()
        if answer.model not in self._seen:
            self._seen.add(answer.model)
            if not is_same_model(self.model, answer.model):
                self.tell(answer.model)
        return answer


def _parts(name: str) -> list[str]:
    """A path's folders and its last part; the hub's cache has names of models as folders: `models--org--name`."""
    parts = [part for part in re.split(r"[/\\]|--", name.strip().lower()) if part]
    return parts or [""]


def _is_same(one: str, other: str) -> bool:
    """Whether two names differ in versions and tags alone."""
    (one, our_tag), (other, their_tag) = _without_tag(one), _without_tag(other)
    if our_tag and their_tag and our_tag != their_tag:
        return False
    ours, theirs = _words(one), _words(other)
    n_common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(ours, theirs, strict=False)))
    rests = ["-".join(words[n_common:]) for words in (ours, theirs)]
    may_differ = any(_TAGS.fullmatch(rest) for rest in rests) and all(_VERSION.fullmatch(rest) for rest in rests)
    return n_common > 0 and may_differ


def _without_tag(name: str) -> tuple[str, str]:
    """A name, and what stands behind `:` or `@`; `latest` says nothing."""
    bare, _, tag = name.replace("@", ":").partition(":")
    return bare, "" if tag == "latest" else tag


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", name) if word]
