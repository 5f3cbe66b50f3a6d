"""Show where the feature fires beside look-alikes where it does not, and ask for what tells them apart.

After delphi's contrastive explainer: 15 activating and 5 non-activating examples in one prompt. The non-activating ones
come from the explainer's own pool, never from the one used for scoring; the hardest first (those of neighbours and
similar texts before random ones).
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from sae_auto_interp.explainers._asking import (
    JSON_ANSWER,
    MARKED_LINE,
    Reading,
    answer_schema,
    check_counts,
    check_fraction,
    marked,
    no_strings,
    nothing_to_show,
    strongest_first,
    without_text,
)
from sae_auto_interp.explainers._fitting import Fewer, ask_fitting
from sae_auto_interp.prompting.highlights import choose_delimiters
from sae_auto_interp.prompting.marked_lines import marked_line
from sae_auto_interp.prompting.prompts import load_prompt
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Explanation, Failure, FeatureRecord, Message, Request, Sampling

HARDEST_FIRST = ("neighbour", "similar", "token", "random")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastiveExplainer:
    """One request per feature; a feature without non-activating examples for explaining is a Failure."""

    name: ClassVar[str] = "contrastive"

    client: Client
    n_activating: int = 15
    n_non_activating: int = 5
    threshold: float = 0.3
    """Fraction of a window's maximum above which a token is marked."""
    temperature: float = 0.0
    max_tokens: int = 500
    structured: bool = True
    """Ask for JSON, by schema and in words, where the endpoint holds answers to a schema; elsewhere, or if false, for
    a line of text."""

    def __post_init__(self) -> None:
        check_fraction(self.name, "threshold", self.threshold)
        check_counts(
            self.name, n_activating=self.n_activating, n_non_activating=self.n_non_activating,
            max_tokens=self.max_tokens,
        )  # fmt: skip

    async def explain(self, record: FeatureRecord) -> Explanation | Failure:
        if not record.train:
            return nothing_to_show(record.feature)
        if not record.non_activating.explain:
            return nothing_to_show(record.feature, "non-activating examples for explaining")
        if without_text([*record.train, *record.non_activating.explain]):
            return no_strings(record.feature)
        reading = Reading(self.name, [load_prompt("explainers", self.name)], marked_line, MARKED_LINE)
        n = min(self.n_activating, len(record.train))
        fewer = Fewer(n, lambda shown: self._with(shown, n).request(record), f"explainers.{self.name}.n_activating")
        return await ask_fitting(self.client, record.feature, reading, fewer)

    def _with(self, n: int, most: int) -> "ContrastiveExplainer":
        """With `n` of at most `most` activating examples, and in the same proportion fewer of the others."""
        return replace(self, n_activating=n, n_non_activating=max(1, self.n_non_activating * n // most))

    def request(self, record: FeatureRecord) -> Request:
        """The request for one feature; the same record gives the same request."""
        active = strongest_first(record.train, self.n_activating)
        silent = sorted(record.non_activating.explain, key=lambda e: HARDEST_FIRST.index(e.source))
        silent = silent[: self.n_non_activating]
        opening, closing = delimiters = choose_delimiters(example.text for example in [*active, *silent])
        fires = [f"{i}. {marked(example, self.threshold, delimiters)}" for i, example in enumerate(active, 1)]
        quiet = [f"{i}. {example.text}" for i, example in enumerate(silent, 1)]
        user = "FIRES:\n\n" + "\n\n".join(fires) + "\n\nDOES NOT FIRE:\n\n" + "\n\n".join(quiet)
        system = load_prompt("explainers", self.name).fill(opening=opening, closing=closing)
        schema = answer_schema(JSON_ANSWER) if self.structured else None
        messages = (Message("system", system), Message("user", user))
        return Request(messages, Sampling(self.temperature, self.max_tokens), schema)
