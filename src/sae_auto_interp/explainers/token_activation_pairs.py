"""OpenAI's form (Bills et al. 2023): every token of the strongest examples on a line with its activation from 0 to 10.

Activations are discretised by the largest that is shown, `floor(10 · relu(a) / largest)`; delphi's later versions round
up instead (`rounding: ceil`). Where fewer than a fifth of the tokens are active, the active ones are listed
once more alone. The reply continues the phrase "the main thing this neuron does is find".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.explainers._asking import Reading, ask, check_counts, no_strings, nothing_to_show
from sae_auto_interp.explainers._evidence import without_text
from sae_auto_interp.prompting.highlights import normalised_activations
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
        return await ask(self.client, record.feature, self.request(record), reading)

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
        return Request(messages, Sampling(self.temperature, self.max_tokens))

    def _levels(self, example: Example, largest: float) -> list[int]:
        if self.rounding == "floor":
            return normalised_activations(example.activations, largest)
        scaled = np.ceil(10 * np.maximum(example.activations, 0) / largest) if largest > 0 else example.activations * 0
        return [int(value) for value in np.minimum(scaled, 10)]


def after_prefix(reply: str) -> str | None:
    """The reply as a phrase; a model that repeats the prefix is forgiven."""
    text = reply.strip()
    _, found, rest = text.partition(PREFIX)
    return (rest.strip() if found else text) or None


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
