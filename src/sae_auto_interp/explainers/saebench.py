"""SAEBench's explainer: short texts around the peak with marked tokens, answered by "This neuron activates on ...".

As SAEBench's autointerp evaluation shows them: the strongest examples and as many again as were drawn by importance,
marks on tokens above 1 % of the feature's maximum, line breaks as one character, windows of 10 tokens to each side.
SAEBench marks with << and >> whatever the text holds; so does this explainer, for comparison's sake.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.explainers._asking import (
    Reading,
    answer_schema,
    check_counts,
    check_fraction,
    no_strings,
    nothing_to_show,
    peak,
    strongest_first,
    without_text,
)
from sae_auto_interp.explainers._fitting import Fewer, ask_fitting
from sae_auto_interp.prompting.highlights import marked_text
from sae_auto_interp.prompting.marked_lines import Found, first_line, in_small_letters, plain
from sae_auto_interp.prompting.prompts import load_prompt
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Example, Explanation, Failure, FeatureRecord, Message, Request, Sampling

MARK = "activates on"
MOST_CHARACTERS = 100_000
"""Characters of a reply that are read, from its beginning."""
_CLAUSE_CHARACTERS = 120
"""Before the mark, in which its subject stands."""
_NOT_SAID = frozenset(
    {
        "what",
        "which",
        "whatever",
        "whether",
        "if",
        "why",
        "when",
        "where",
        "how",
        "not",
        "cannot",
        "can't",
        "don't",
        "never",
    }
)
"""In the same clause before the mark they make it a question, or say that there is no answer."""


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
    structured: bool = False
    """Ask for JSON, by schema and in words, where the endpoint holds answers to a schema; a small model keeps to that
    much better. Off, since SAEBench asks for text: with it figures are not comparable."""

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
        n = min(self.n_top + self.n_others, len(record.train))
        fewer = Fewer(n, lambda n: self._with(n).request(record), f"explainers.{self.name}.n_top and n_others")
        return await ask_fitting(self.client, record.feature, reading, fewer)

    def _with(self, n: int) -> "SaebenchExplainer":
        """With fewer texts, of both kinds in about the same proportion."""
        n_others = min(self.n_others, n * self.n_others // (self.n_top + self.n_others))
        return replace(self, n_top=min(self.n_top, n - n_others), n_others=n_others)

    def request(self, record: FeatureRecord) -> Request:
        """The request for one feature; the same record gives the same request."""
        ordered = sorted(record.train, key=lambda example: -example.max_activation)
        shown = ordered[: self.n_top] + strongest_first(ordered[self.n_top :], self.n_others)
        least = self.threshold * record.stats.max_activation
        lines = [f"{i}. {self._marked(example, least)}" for i, example in enumerate(shown, 1)]
        system = load_prompt("explainers", self.name).fill(n=str(self.n_words))
        messages = (Message("system", system), Message("user", "The texts:\n\n" + "\n".join(lines)))
        schema = answer_schema("the short explanation") if self.structured else None
        return Request(messages, Sampling(self.temperature, self.max_tokens), schema)

    def _marked(self, example: Example, least: float) -> str:
        first = max(0, peak(example) - self.n_context)
        last = peak(example) + self.n_context + 1
        fires = [bool(value > least) for value in example.activations[first:last]]
        return marked_text(_one_line(example.str_tokens[first:last]), fires, ("<<", ">>"))


def after_activates_on(reply: str) -> Found | None:
    """What follows the first "activates on" that is said and not asked ("it is not clear what it activates on").

    It ends with its line, without the full stop.
    """
    small = in_small_letters(reply[:MOST_CHARACTERS])
    at = small.find(MARK)
    while at >= 0:
        near = max(0, at - _CLAUSE_CHARACTERS)
        begin = max(near, 1 + max(small.rfind(end, near, at) for end in ".!?\n:;"))
        behind = at + len(MARK)
        follows = reply[behind : behind + _CLAUSE_CHARACTERS].strip()
        if _NOT_SAID.isdisjoint(small[begin:at].split()) and follows and follows[0] not in ",.;:!?)":
            text = first_line(reply[behind:MOST_CHARACTERS]).rstrip(".").strip()
            return Found(plain(text), begin) if text else None
        at = small.find(MARK, behind)
    return None


def _one_line(tokens: Sequence[str]) -> list[str]:
    return [token.replace("\n", "↵") for token in tokens]
