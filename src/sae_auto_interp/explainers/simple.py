"""The simple explainer: show a language model the training examples, with marks and activations, and ask once.

The form follows delphi's default explainer (arXiv 2410.13928, section 3.2, appendix B): marks on tokens above a
fraction of the window's maximum, an optional list of the strongest tokens with activations from 0 to 10 (floor), one
worked example, and an answer on a line of its own. A reply without that line is a Failure, never an explanation.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar

from sae_auto_interp.explainers._asking import (
    JSON_ANSWER,
    MARKED_LINE,
    Reading,
    answer_schema,
    check_counts,
    check_fraction,
    nothing_to_show,
    strongest_first,
    without_text,
)
from sae_auto_interp.explainers._fitting import Fewer, ask_fitting
from sae_auto_interp.prompting.highlights import (
    choose_delimiters,
    highlighted_tokens,
    marked_text,
    normalised_activations,
)
from sae_auto_interp.prompting.marked_lines import marked_line
from sae_auto_interp.prompting.prompts import Prompt, load_prompt
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Example, Explanation, Failure, FeatureRecord, Message, Request, Sampling

MOST_LISTED_TOKENS = 10
_LISTING = re.compile(r"\nStrongest tokens: .*")


@dataclass(frozen=True, slots=True)
class SimpleExplainer:
    """One request per feature. `tokenizer` (anything with `decode`) is used only where examples carry no strings."""

    name: ClassVar[str] = "simple"

    client: Client
    tokenizer: Any = None
    _: KW_ONLY
    threshold: float = 0.3
    """Fraction of a window's maximum above which a token is marked."""
    show_activations: bool = True
    """List the strongest tokens with their activation below each excerpt."""
    n_examples: int = 40
    """Most training examples shown, spread evenly from strongest to weakest."""
    temperature: float = 0.0
    max_tokens: int = 500
    structured: bool = True
    """Ask for JSON, by schema and in words, where the endpoint holds answers to a schema; elsewhere, or if false, for
    a line of text."""

    def __post_init__(self) -> None:
        check_fraction(self.name, "threshold", self.threshold)
        check_counts(self.name, n_examples=self.n_examples, max_tokens=self.max_tokens)

    async def explain(self, record: FeatureRecord) -> Explanation | Failure:
        """Ask once; a server's or a parser's trouble comes back as a Failure."""
        if not record.train:
            return nothing_to_show(record.feature)
        if self.tokenizer is None and without_text(record.train):
            return Failure("explain", "no_text", f"{record.feature}: the examples carry no strings; give a tokenizer")
        n = min(self.n_examples, len(record.train))
        fewer = Fewer(n, lambda n: replace(self, n_examples=n).request(record), f"explainers.{self.name}.n_examples")
        return await ask_fitting(self.client, record.feature, _reading(), fewer)

    def request(self, record: FeatureRecord) -> Request:
        """The request for one feature; the same record gives the same request. It needs training examples with text."""
        examples = strongest_first(record.train, self.n_examples)
        strings = [self._strings(example) for example in examples]
        opening, closing = delimiters = choose_delimiters("".join(s) for s in strings)
        largest = max(example.max_activation for example in examples)
        shown = [
            f"Excerpt {number}: {self._shown(example, texts, delimiters, largest)}"
            for number, (example, texts) in enumerate(zip(examples, strings, strict=True), 1)
        ]
        system, user, assistant = (self._fitted(prompt.fill(opening=opening, closing=closing)) for prompt in _prompts())
        messages = (
            Message("system", system), Message("user", user), Message("assistant", assistant),
            Message("user", "\n\n".join(shown)),
        )  # fmt: skip
        schema = answer_schema(JSON_ANSWER) if self.structured else None
        return Request(messages, Sampling(self.temperature, self.max_tokens), schema)

    def _fitted(self, prompt: str) -> str:
        """The prompt without its lines about listed tokens, where none are listed."""
        return prompt if self.show_activations else _LISTING.sub("", prompt)

    def _shown(self, example: Example, strings: Sequence[str], delimiters: tuple[str, str], largest: float) -> str:
        marked: list[bool] = highlighted_tokens(example.activations, self.threshold).tolist()
        text = marked_text(strings, marked, delimiters)
        if not self.show_activations:
            return text
        activations: list[float] = example.activations.tolist()
        shown = (i for i, is_marked in enumerate(marked) if is_marked and strings[i])
        listed = sorted(shown, key=lambda i: -activations[i])[:MOST_LISTED_TOKENS]
        levels = normalised_activations(example.activations[listed], largest)
        named = (json.dumps(strings[i], ensure_ascii=False) for i in listed)
        pairs = (f"({token}, {max(1, level)})" for token, level in zip(named, levels, strict=True))
        return f"{text}\nStrongest tokens: {', '.join(pairs)}"

    def _strings(self, example: Example) -> Sequence[str]:
        if example.str_tokens or self.tokenizer is None:
            return example.str_tokens
        return [self.tokenizer.decode([int(token)]) for token in example.tokens]


def _reading() -> Reading:
    return Reading(SimpleExplainer.name, _prompts(), marked_line, MARKED_LINE)


def _prompts() -> list[Prompt]:
    """The instructions, then the worked example: its question and its answer."""
    names = ("simple", "simple_example_user", "simple_example_assistant")
    return [load_prompt("explainers", name) for name in names]
