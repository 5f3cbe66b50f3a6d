"""Sensitivity: does the feature fire on new texts like those that it fires on? It reads no explanation.

A language model sees training examples and writes texts like them; the result is the share of these on which the
feature fires, TPR (arXiv 2509.23717: ten strongest and five other examples, ten texts). A feature can be easy to
explain by its strongest windows and yet be silent on most texts of that kind. All trials are of texts that should make
it fire, so balanced accuracy is undefined. A text that repeats an example, or a part of one that is most of it, is
a failure: it would fire for that.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.prompting.highlights import choose_delimiters, highlighted_tokens, marked_text
from sae_auto_interp.prompting.prompts import load_prompt
from sae_auto_interp.protocols import ActivationReader, Client
from sae_auto_interp.scorers._writing import TOKENS_PER_TEXT, Written, texts_schema, trials_of, write
from sae_auto_interp.types import Example, Explanation, Failure, FeatureRecord, Message, Request, Sampling, Score, Usage

COPIED_FRACTION = 0.8
"""Share of an example's words which, found in one piece in a text, make the text a copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitivityScorer:
    """One request for texts and one forward pass over them."""

    name: ClassVar[str] = "sensitivity"
    reads_explanation: ClassVar[bool] = False

    client: Client
    reader: ActivationReader
    n_texts: int = 10
    n_strongest: int = 10
    """Training examples shown from the strongest on."""
    n_others: int = 5
    """Further ones, evenly from the rest."""
    marked_fraction: float = 0.3
    """Fraction of a window's maximum above which a token is marked."""
    threshold: float = 0.0
    """Fraction of the feature's largest activation above which it counts as firing; 0: it fires at all."""
    structured: bool = True
    """Send the answer's JSON schema; servers that ignore it are read as text just the same."""
    temperature: float = 0.0
    spare_tokens: int = 100
    """Tokens of an answer beyond its texts; raise it for a model that thinks before it answers."""

    def __post_init__(self) -> None:
        if self.n_texts < 1 or self.n_strongest < 1 or self.n_others < 0:
            counts = f"n_texts={self.n_texts}, n_strongest={self.n_strongest}, n_others={self.n_others}"
            raise ConfigError(f"scorers.{self.name}: {counts}; give at least 1, 1 and 0")
        for name, value in (("threshold", self.threshold), ("marked_fraction", self.marked_fraction)):
            if not 0 <= value < 1:
                raise ConfigError(f"scorers.{self.name}.{name}={value}; give a fraction from 0 to below 1")

    @property
    def judged_by(self) -> str:
        return f"llm:{self.client.model}"

    async def score(self, record: FeatureRecord, explanation: Explanation, explanation_id: str) -> Score:
        examples = self.examples(record)
        written, usage = await self._written(record, examples)
        shown = [_words(example.text) for example in examples]
        judged = [(_copy(text, shown) or text, True) for text in written]
        trials = await trials_of(self.reader, record, judged, self.threshold)
        return Score(record.feature, self.name, explanation_id, "classification", trials, usage)

    def examples(self, record: FeatureRecord) -> list[Example]:
        """The training examples that are shown: the strongest, then some of the others."""
        ordered = sorted((e for e in record.train if e.text), key=lambda example: -example.max_activation)
        rest = ordered[self.n_strongest :]
        places = np.linspace(0, len(rest) - 1, min(self.n_others, len(rest))).round().astype(int)
        return ordered[: self.n_strongest] + [rest[int(i)] for i in places]

    def request(self, examples: Sequence[Example]) -> Request:
        """The request for one feature; the same examples give the same request."""
        opening, closing = delimiters = choose_delimiters(example.text for example in examples)
        system = load_prompt("scorers", self.name).fill(n=str(self.n_texts), opening=opening, closing=closing)
        shown = [
            f"Text {number}: {marked_text(example.str_tokens, self._marks(example), delimiters)}"
            for number, example in enumerate(examples, 1)
        ]
        messages = (Message("system", system), Message("user", "\n\n".join(shown)))
        sampling = Sampling(self.temperature, self.spare_tokens + TOKENS_PER_TEXT * self.n_texts)
        return Request(messages, sampling, texts_schema(self.n_texts) if self.structured else None)

    async def _written(self, record: FeatureRecord, examples: Sequence[Example]) -> tuple[list[Written], Usage]:
        if not examples:
            failure = Failure("score", "no_examples", f"{record.feature} has no training example with text")
            return [failure] * self.n_texts, Usage()
        return await write(self.client, self.request(examples), self.n_texts)

    def _marks(self, example: Example) -> list[bool]:
        return highlighted_tokens(example.activations, self.marked_fraction).tolist()


def _copy(text: Written, shown: Sequence[Sequence[str]]) -> Failure | None:
    """A failure where a text repeats most of an example in one piece."""
    if isinstance(text, Failure):
        return None
    joined = _joined(_words(text))
    for words in shown:
        n = max(1, round(COPIED_FRACTION * len(words)))
        if words and any(_joined(words[i : i + n]) in joined for i in range(len(words) - n + 1)):
            return Failure("score", "copied_text", "a text repeats an example that was shown", text)
    return None


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text.casefold())


def _joined(words: Sequence[str]) -> str:
    return f" {' '.join(words)} "
