"""Language models that are simulated from the prompt they are sent: what they know of the world is in their words.

A model reads the request as a real one would have to: it tells the task by its instructions, takes the excerpts and
their marks apart, looks up what the description means (`rule_of`), and writes an answer that is then parsed. So a score
of 1 for the oracle says that prompt and parser are right too.
"""

import json
import math
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.judges import LlmJudge
from sae_auto_interp.planted.rules import PLANTED, Rule, rule_of
from sae_auto_interp.planted.words import ADJECTIVES, PLAIN_ADJECTIVES
from sae_auto_interp.prompting.prompts import load_prompt
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Request, Response, TokenLogprob, Usage

TASKS = ("detection", "fuzzing", "discrimination", "intruder", "intruder_explained", "saebench")
ADJECTIVE_WORDS = {word for words in (ADJECTIVES | PLAIN_ADJECTIVES).values() for word in words}
CHOICES = ("discrimination", "intruder", "intruder_explained")
OPENING, CLOSING = "<<", ">>"
_PIECE = re.compile(r"<<|>>|[A-Za-z]+|\.")
WORD = re.compile(r"[A-Za-z]+|\.")


@dataclass(frozen=True)
class Excerpt:
    """One excerpt as it is read from a prompt."""

    words: tuple[str, ...]
    marked: tuple[bool, ...]

    @property
    def marks(self) -> list[int]:
        return [i for i, is_marked in enumerate(self.marked) if is_marked]

    @property
    def n_characters(self) -> int:
        return sum(map(len, self.words))

    def fits(self, rule: Rule) -> bool:
        places = _places(rule, self.words)
        return all(places[i] for i in self.marks) if self.marks else any(places)


@dataclass(frozen=True)
class Asked:
    """A request as it is understood."""

    task: str
    description: str | None
    excerpts: tuple[Excerpt, ...]
    rng: np.random.Generator
    """Depends on the question alone."""

    @property
    def rule(self) -> Rule | None:
        return None if self.description is None else rule_of(self.description)


Mind = Callable[[Asked], Sequence[float]]
"""How well each excerpt fits: above one half means yes; of a choice the best or the worst is taken."""


def model(mind: Mind, name: str = "simulated") -> ScriptedClient:
    """A client to a model that answers by `mind`."""
    return ScriptedClient(lambda request: _answer(mind, request, name), model=name)


def judge(mind: Mind, top_logprobs: int = 0) -> LlmJudge:
    return LlmJudge(client=model(mind, getattr(mind, "__name__", "simulated")), top_logprobs=top_logprobs)


def understood(request: Request) -> Asked:
    """Task, description and excerpts of a request; raises where its instructions are those of no task."""
    system, user = (message.content for message in request.messages)
    described, *texts = re.split(r"(?:^|\n\n)Excerpt \d+: ", user)
    description = described.removeprefix("Description: ") or None
    excerpts = tuple(read_excerpt(text) for text in texts)
    asked = replace(request, top_logprobs=0)  # a model says the same, whether or not its probabilities are asked for
    return Asked(_task(system, len(excerpts)), description, excerpts, derived_rng(0, asked.canonical_json()))


def _answer(mind: Mind, request: Request, name: str) -> Response:
    asked = understood(request)
    fits = mind(asked)
    text = _reply(asked, fits)
    logprobs = _logprobs(text, fits) if request.top_logprobs and asked.task not in (*CHOICES, "saebench") else None
    n_read = sum(len(message.content.split()) for message in request.messages)
    return Response(text, Usage(n_read, len(text.split()), 1), "stop", name, logprobs)


def _reply(asked: Asked, fits: Sequence[float]) -> str:
    if asked.task in CHOICES:
        sign = 1 if asked.task == "discrimination" else -1
        best = max(sign * fit for fit in fits)
        alike = [i for i, fit in enumerate(fits, 1) if sign * fit == best]
        return json.dumps({"choice": int(asked.rng.choice(alike))})
    if asked.task == "saebench":
        return ", ".join(str(i) for i, fit in enumerate(fits, 1) if fit > 0.5) or "None"
    return json.dumps({"verdicts": [int(fit > 0.5) for fit in fits]})


def _logprobs(text: str, fits: Sequence[float]) -> tuple[TokenLogprob, ...]:
    """A token per character; those of the verdicts list both digits."""
    sure = iter(np.clip(fits, 0.02, 0.98).tolist())
    return tuple(_token(character, next(sure) if character in "01" else None) for character in text)


def _token(character: str, p: float | None) -> TokenLogprob:
    if p is None:
        return TokenLogprob(character, 0.0)
    return TokenLogprob(character, math.log(max(p, 1 - p)), {"1": math.log(p), "0": math.log(1 - p)})


@cache
def _task(system: str, n: int) -> str:
    filled = {task: load_prompt("judges", task).fill(n=str(n), opening=OPENING, closing=CLOSING) for task in TASKS}
    return next(task for task, text in filled.items() if text == system)


@cache
def read_excerpt(text: str) -> Excerpt:
    """Words and full stops of a text, and which of them are marked."""
    words: list[tuple[str, bool]] = []
    is_open = False
    for piece in _PIECE.findall(text):
        if piece in (OPENING, CLOSING):
            is_open = piece == OPENING
        else:
            words.append((piece, is_open))
    return Excerpt(tuple(word for word, _ in words), tuple(is_marked for _, is_marked in words))


@cache
def _places(rule: Rule, words: tuple[str, ...]) -> list[bool]:
    return rule.places(words)


def oracle(asked: Asked) -> Sequence[float]:
    """Knows every planted rule. Told none, it finds the one that the marks of most excerpts have in common."""
    rule = asked.rule
    if asked.task == "intruder":
        rule = max((f.exact for f in PLANTED), key=lambda rule: sum(e.fits(rule) for e in asked.excerpts))
    return guessing(asked) if rule is None else [float(excerpt.fits(rule)) for excerpt in asked.excerpts]


def erring(miss_rate: float, false_alarm_rate: float) -> Mind:
    """The oracle, with errors by independent coins. In a choice it errs with probability `miss_rate`."""

    def mind(asked: Asked) -> Sequence[float]:
        fits = oracle(asked)
        if asked.task in CHOICES:
            return _swapped(fits, asked) if asked.rng.random() < miss_rate else fits
        rates = [miss_rate if fit > 0.5 else false_alarm_rate for fit in fits]
        return [abs(fit - float(asked.rng.random() < rate)) for fit, rate in zip(fits, rates, strict=True)]

    return mind


def _swapped(fits: Sequence[float], asked: Asked) -> Sequence[float]:
    """The right answer and a wrong one change places."""
    right = int(np.argmax(fits) if asked.task == "discrimination" else np.argmin(fits))
    wrong = int(asked.rng.choice([i for i in range(len(fits)) if i != right]))
    swapped = list(fits)
    swapped[right], swapped[wrong] = fits[wrong], fits[right]
    return swapped


def guessing(asked: Asked) -> Sequence[float]:
    """By coins."""
    return asked.rng.random(len(asked.excerpts)).tolist()


def always_yes(asked: Asked) -> Sequence[float]:
    """Of a choice always the first."""
    return _first(asked) if asked.task in CHOICES else [1.0] * len(asked.excerpts)


def always_no(asked: Asked) -> Sequence[float]:
    """Of a choice always the last."""
    return _first(asked)[::-1] if asked.task in CHOICES else [0.0] * len(asked.excerpts)


def _first(asked: Asked) -> list[float]:
    n = len(asked.excerpts)
    by_place = [1 - i / n for i in range(n)]
    return by_place if asked.task == "discrimination" else [-fit for fit in by_place]


def counting_marks(asked: Asked) -> Sequence[float]:
    """The more tokens are marked, the better it fits; two are enough for a yes."""
    return [len(excerpt.marks) / 4 + 0.1 for excerpt in asked.excerpts]


def by_position(asked: Asked) -> Sequence[float]:
    """The earlier the first mark, the better; without marks, the first half of what is shown."""
    n = len(asked.excerpts)
    if not any(excerpt.marks for excerpt in asked.excerpts):
        return [float(i < n / 2) for i in range(n)]
    return [1 - min(e.marks, default=len(e.words)) / len(e.words) for e in asked.excerpts]


def by_length(asked: Asked) -> Sequence[float]:
    """The longer the text, the better; more letters than the median 64 are enough for a yes."""
    return [excerpt.n_characters / 128 for excerpt in asked.excerpts]


def guessing_the_base_rate(asked: Asked) -> Sequence[float]:
    """Yes to as many as usually fit: half, or 4 of SAEBench's 14; which, is chance."""
    n = len(asked.excerpts)
    share = 4 / 14 if asked.task == "saebench" else 1 / 2
    return (asked.rng.permutation(n) < round(share * n)).astype(float).tolist()


def guessing_the_theme(asked: Asked) -> Sequence[float]:
    """Reads no explanation, and takes the planted rule that fits most of what it is shown at once."""
    rule = max((f.exact for f in PLANTED), key=lambda rule: sum(e.fits(rule) for e in asked.excerpts))
    return [float(excerpt.fits(rule)) for excerpt in asked.excerpts]


def guess(*facts: str) -> float:
    """A number from 0 to 1 that depends on the facts and says nothing about them."""
    return zlib.crc32("\0".join(facts).encode()) / 2**32


def first_adjective(words: Sequence[str]) -> int:
    """Where the first adjective stands: the same in a text whatever it is about."""
    return next(i for i, word in enumerate(words) if word in ADJECTIVE_WORDS)
