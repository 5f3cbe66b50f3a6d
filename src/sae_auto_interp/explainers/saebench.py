"""SAEBench's explainer: short texts around the peak with marked tokens, answered by "This neuron activates on ...".

As SAEBench's autointerp evaluation shows them: the strongest examples and as many again as were drawn by importance,
marks on tokens above 1 % of the feature's maximum, line breaks as one character, windows of 10 tokens to each side.
SAEBench marks with << and >> whatever the text holds; so does this explainer, for comparison's sake.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.explainers._asking import (
    Reading,
    ask,
    check_counts,
    check_fraction,
    no_strings,
    nothing_to_show,
)
from sae_auto_interp.explainers._evidence import peak, strongest_first, without_text
from sae_auto_interp.prompting.highlights import marked_text
from sae_auto_interp.prompting.prompts import load_prompt
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Example, Explanation, Failure, FeatureRecord, Message, Request, Sampling

MARK = "activates on"


@dataclass(frozen=True, slots=True, kw_only=True)
class SaebenchExplainer:
    """One request per feature: `n_top` strongest examples, then `n_others` spread over the weaker ones."""

    name: ClassVar[str] = "saebench"

    client: Client
    n_top: int = 10
    n_others: int = 5
    n_context: int = 10
    """Tokens shown on each side of the peak."""
    threshold: float = 0.01
    """Fraction of the feature's maximum above which a token is marked."""
    n_words: int = 30
    temperature: float = 0.0
    max_tokens: int = 60

    def __post_init__(self) -> None:
        check_fraction(self.name, "threshold", self.threshold)
        check_counts(self.name, n_top=self.n_top, n_context=self.n_context, max_tokens=self.max_tokens)
        if self.n_others < 0:
            raise ConfigError(f"explainers.{self.name}.n_others={self.n_others}; give at least 0")

    async def explain(self, record: FeatureRecord) -> Explanation | Failure:
        if not record.train:
            return nothing_to_show(record.feature)
        if without_text(record.train):
            return no_strings(record.feature)
        reading = Reading(
            self.name, [load_prompt("explainers", self.name)], after_activates_on, "'This neuron activates on ...'"
        )
        return await ask(self.client, record.feature, self.request(record), reading)

    def request(self, record: FeatureRecord) -> Request:
        """The request for one feature; the same record gives the same request."""
        ordered = sorted(record.train, key=lambda example: -example.max_activation)
        shown = ordered[: self.n_top] + strongest_first(ordered[self.n_top :], self.n_others)
        least = self.threshold * record.stats.max_activation
        lines = [f"{i}. {self._marked(example, least)}" for i, example in enumerate(shown, 1)]
        system = load_prompt("explainers", self.name).fill(n=str(self.n_words))
        messages = (Message("system", system), Message("user", "The texts:\n\n" + "\n".join(lines)))
        return Request(messages, Sampling(self.temperature, self.max_tokens))

    def _marked(self, example: Example, least: float) -> str:
        first = max(0, peak(example) - self.n_context)
        last = peak(example) + self.n_context + 1
        fires = [bool(value > least) for value in example.activations[first:last]]
        return marked_text(_one_line(example.str_tokens[first:last]), fires, ("<<", ">>"))


def after_activates_on(reply: str) -> str | None:
    """What follows the last "activates on", without the full stop."""
    _, found, text = reply.rpartition(MARK)
    return (text.strip().rstrip(".").strip() or None) if found else None


def _one_line(tokens: Sequence[str]) -> list[str]:
    return [token.replace("\n", "↵") for token in tokens]
