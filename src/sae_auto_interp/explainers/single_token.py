"""For features of single tokens: show the peak tokens with their counts instead of whole excerpts.

delphi's single-token explainer, for features that `features` statistics flag as unigram: the text around a token
carries nothing then, and a list of tokens is shorter and clearer than forty excerpts.
"""

import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import ClassVar

from sae_auto_interp.explainers._asking import (
    JSON_ANSWER,
    MARKED_LINE,
    Reading,
    answer_schema,
    check_counts,
    no_strings,
    nothing_to_show,
    peak,
    strongest_first,
    without_text,
)
from sae_auto_interp.explainers._fitting import Fewer, ask_fitting
from sae_auto_interp.prompting.highlights import choose_delimiters, marked_text
from sae_auto_interp.prompting.marked_lines import marked_line
from sae_auto_interp.prompting.prompts import load_prompt
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Example, Explanation, Failure, FeatureRecord, Message, Request, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleTokenExplainer:
    """One request per feature, about at most `n_tokens` different peak tokens."""

    name: ClassVar[str] = "single_token"

    client: Client
    n_tokens: int = 20
    temperature: float = 0.0
    max_tokens: int = 300
    structured: bool = True
    """Ask for JSON, by schema and in words, where the endpoint holds answers to a schema; elsewhere, or if false, for
    a line of text."""

    def __post_init__(self) -> None:
        check_counts(self.name, n_tokens=self.n_tokens, max_tokens=self.max_tokens)

    async def explain(self, record: FeatureRecord) -> Explanation | Failure:
        if not record.train:
            return nothing_to_show(record.feature)
        if without_text(record.train):
            return no_strings(record.feature)
        reading = Reading(self.name, [load_prompt("explainers", self.name)], marked_line, MARKED_LINE)
        n = min(self.n_tokens, len({example.str_tokens[peak(example)] for example in record.train}))
        fewer = Fewer(n, lambda n: replace(self, n_tokens=n).request(record), f"explainers.{self.name}.n_tokens")
        return await ask_fitting(self.client, record.feature, reading, fewer)

    def request(self, record: FeatureRecord) -> Request:
        """The request for one feature; the same record gives the same request."""
        examples = strongest_first(record.train, len(record.train))
        counts = Counter(example.str_tokens[peak(example)] for example in examples)
        delimiters = choose_delimiters(example.text for example in examples)
        first = {example.str_tokens[peak(example)]: example for example in reversed(examples)}
        ordered = sorted(counts, key=lambda token: (-counts[token], token))[: self.n_tokens]
        listed = [f"{json.dumps(t, ensure_ascii=False)} x{counts[t]}: {_shown(first[t], delimiters)}" for t in ordered]
        opening, closing = delimiters
        system = load_prompt("explainers", self.name).fill(opening=opening, closing=closing)
        messages = (Message("system", system), Message("user", "\n".join(listed)))
        schema = answer_schema(JSON_ANSWER) if self.structured else None
        return Request(messages, Sampling(self.temperature, self.max_tokens), schema)


def _shown(example: Example, delimiters: tuple[str, str]) -> str:
    """One line: the excerpt with its peak marked."""
    at = peak(example)
    marked = marked_text(example.str_tokens, (i == at for i in range(len(example.str_tokens))), delimiters)
    return marked.replace("\n", "\\n")
