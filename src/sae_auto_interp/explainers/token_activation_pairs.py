"""OpenAI's form (Bills et al. 2023): every token of the strongest examples on a line with its activation from 0 to 10.

Activations are discretised by the largest that is shown, `floor(10 · relu(a) / largest)`; delphi's later versions round
up instead (`rounding: ceil`). Where fewer than a fifth of the tokens are active, the active ones are listed
once more alone. The reply continues the phrase "the main thing this neuron does is find".
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.explainers._asking import (
    Reading,
    answer_schema,
    check_counts,
    no_strings,
    nothing_to_show,
    without_text,
)
from sae_auto_interp.explainers._fitting import Fewer, ask_fitting
from sae_auto_interp.prompting.highlights import normalised_activations
from sae_auto_interp.prompting.marked_lines import Found, first_line, in_small_letters, marked_line
from sae_auto_interp.prompting.prompts import Prompt, load_prompt
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Example, Explanation, Failure, FeatureRecord, Message, Request, Sampling

PREFIX = "the main thing this neuron does is find"
SPARSE = 0.2
"""Fraction of active tokens below which they are repeated."""
Rounding = Literal["floor", "ceil"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenActivationPairsExplainer:
    """One request per feature, with its `n_examples` strongest training examples."""

    name: ClassVar[str] = "token_activation_pairs"

    client: Client
    n_examples: int = 5
    rounding: Rounding = "floor"
    temperature: float = 0.0
    max_tokens: int = 60
    structured: bool = False
    """Ask for JSON, by schema and in words, where the endpoint holds answers to a schema; a small model keeps to that
    much better. Off, since the source asks for text: with it figures are not comparable."""

    def __post_init__(self) -> None:
        check_counts(self.name, n_examples=self.n_examples, max_tokens=self.max_tokens)
        if self.rounding not in ("floor", "ceil"):
            raise ConfigError(f"explainers.{self.name}.rounding={self.rounding!r}; give floor or ceil")

    async def explain(self, record: FeatureRecord) -> Explanation | Failure:
        if not record.train:
            return nothing_to_show(record.feature)
        if without_text(record.train):
            return no_strings(record.feature)
        reading = Reading(self.name, _prompts(), after_prefix, "text")
        n = min(self.n_examples, len(record.train))
        fewer = Fewer(n, lambda n: replace(self, n_examples=n).request(record), f"explainers.{self.name}.n_examples")
        return await ask_fitting(self.client, record.feature, reading, fewer)

    def request(self, record: FeatureRecord) -> Request:
        """The request for one feature; the same record gives the same request."""
        examples = sorted(record.train, key=lambda example: -example.max_activation)[: self.n_examples]
        largest = max(example.max_activation for example in examples)
        levels = [self._levels(example, largest) for example in examples]
        blocks = [_block(_pairs(example, own)) for example, own in zip(examples, levels, strict=True)]
        asked = ["Neuron 2", "Activations:", *blocks]
        if _fraction_active(levels) < SPARSE:
            active = [_block(_pairs(e, own, active_only=True)) for e, own in zip(examples, levels, strict=True)]
            asked += ["", "The same, but for tokens of activation 0:", *active]
        asked += ["", f"Explanation of neuron 2: {PREFIX}"]
        system, user, assistant = (prompt.template for prompt in _prompts())
        messages = (
            Message("system", system), Message("user", user), Message("assistant", assistant),
            Message("user", "\n".join(asked)),
        )  # fmt: skip
        schema = answer_schema("the short phrase") if self.structured else None
        return Request(messages, Sampling(self.temperature, self.max_tokens), schema)

    def _levels(self, example: Example, largest: float) -> list[int]:
        if self.rounding == "floor":
            return normalised_activations(example.activations, largest)
        scaled = np.ceil(10 * np.maximum(example.activations, 0) / largest) if largest > 0 else example.activations * 0
        return [int(value) for value in np.minimum(scaled, 10)]


def after_prefix(reply: str) -> Found | None:
    """The reply as a phrase, on one line; a model that repeats the prefix, or writes a label before it, is forgiven."""
    at = in_small_letters(reply).find(PREFIX)
    if at >= 0:
        text = first_line(reply[at + len(PREFIX) :])
    else:
        labelled = marked_line(reply)
        text = first_line(reply) if labelled is None else labelled.text
    return None if not text or _is_of_the_table(text) else Found(text, 0)


def _is_of_the_table(line: str) -> bool:
    """Whether a model went on with the tokens and levels that it was shown."""
    return line in ("<start>", "<end>") or (line.rpartition("\t")[2].isdecimal() and "\t" in line)


def _pairs(example: Example, levels: Sequence[int], *, active_only: bool = False) -> list[str]:
    """One line per token: line breaks and tabs within tokens would break the form."""
    return [
        f"{token.translate(_ESCAPES)}\t{level}"
        for token, level in zip(example.str_tokens, levels, strict=True)
        if level > 0 or not active_only
    ]


def _block(lines: Sequence[str]) -> str:
    return "\n".join(["<start>", *lines, "<end>"])


def _fraction_active(levels: Sequence[Sequence[int]]) -> float:
    flat = [level for own in levels for level in own]
    return sum(level > 0 for level in flat) / len(flat)


def _prompts() -> list[Prompt]:
    name = TokenActivationPairsExplainer.name
    return [load_prompt("explainers", f"{name}{part}") for part in ("", "_example_user", "_example_assistant")]


_ESCAPES = str.maketrans({"\n": "\\n", "\t": "\\t", "\r": "\\r"})
