"""Show where the feature fires beside look-alikes where it does not, and ask for what tells them apart.

After delphi's contrastive explainer: 15 activating and 5 non-activating examples in one prompt. The non-activating ones
come from the explainer's own pool, never from the one used for scoring; the hardest first (those of neighbours and
similar texts before random ones).
"""

from dataclasses import dataclass
from typing import ClassVar

from sae_auto_interp.explainers._asking import (
    ANSWER_MARK,
    Reading,
    after_mark,
    ask,
    check_counts,
    check_fraction,
    no_strings,
    nothing_to_show,
)
from sae_auto_interp.explainers._evidence import marked, strongest_first, without_text
from sae_auto_interp.prompting.highlights import choose_delimiters
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
        reading = Reading(self.name, [load_prompt("explainers", self.name)], after_mark, f"line '{ANSWER_MARK} ...'")
        return await ask(self.client, record.feature, self.request(record), reading)

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
        return Request((Message("system", system), Message("user", user)), Sampling(self.temperature, self.max_tokens))
