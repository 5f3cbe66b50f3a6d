"""Neuronpedia's `np_max-act`: a label of a few words from the peak tokens and the texts around them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from sae_auto_interp.explainers._asking import (
    Reading,
    answer_schema,
    check_counts,
    no_strings,
    nothing_to_show,
    peak,
    without_text,
)
from sae_auto_interp.explainers._fitting import Fewer, ask_fitting
from sae_auto_interp.prompting.marked_lines import Found, marked_line
from sae_auto_interp.prompting.prompts import load_prompt
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Example, Explanation, Failure, FeatureRecord, Message, Request, Sampling

LABEL_MARK = "Explanation:"


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxActivationExplainer:
    """One request per feature, with its `n_examples` strongest training examples."""

    name: ClassVar[str] = "max_activation"

    client: Client
    n_examples: int = 10
    n_context: int = 24
    """Tokens shown on each side of the peak."""
    temperature: float = 0.0
    max_tokens: int = 200
    structured: bool = True
    """Ask for JSON, by schema and in words, where the endpoint holds answers to a schema; elsewhere, or if false, for
    a line of text."""

    def __post_init__(self) -> None:
        check_counts(self.name, n_examples=self.n_examples, n_context=self.n_context, max_tokens=self.max_tokens)

    async def explain(self, record: FeatureRecord) -> Explanation | Failure:
        if not record.train:
            return nothing_to_show(record.feature)
        if without_text(record.train):
            return no_strings(record.feature)
        n = min(self.n_examples, len(record.train))
        fewer = Fewer(n, lambda n: replace(self, n_examples=n).request(record), f"explainers.{self.name}.n_examples")
        return await ask_fitting(self.client, record.feature, label_reading(self.name), fewer)

    def request(self, record: FeatureRecord) -> Request:
        """The request for one feature; the same record gives the same request."""
        examples = strongest(record.train, self.n_examples)
        lists = {"MAX_ACTIVATING_TOKENS": peak_tokens(examples)}
        return label_request(
            self.name,
            lists,
            texts(examples, self.n_context),
            Sampling(self.temperature, self.max_tokens),
            self.structured,
        )


def strongest(examples: Sequence[Example], n: int) -> list[Example]:
    """The `n` examples of highest maximum, highest first."""
    return sorted(examples, key=lambda example: -example.max_activation)[:n]


def peak_tokens(examples: Sequence[Example]) -> list[str]:
    """The token of each example on which the feature is strongest."""
    return [example.str_tokens[peak(example)] for example in examples]


def texts(examples: Sequence[Example], n_context: int) -> list[str]:
    """Each example cut to `n_context` tokens on both sides of its peak."""
    return ["".join(e.str_tokens[max(0, peak(e) - n_context) : peak(e) + n_context + 1]) for e in examples]


def label_reading(name: str) -> Reading:
    """The text after the last "Explanation:", on one line."""
    prompt = load_prompt("explainers", name)
    return Reading(name, [prompt], label, f"line '{LABEL_MARK} ...'")


def label_request(
    name: str, lists: dict[str, list[str]], excerpts: Sequence[str], sampling: Sampling, structured: bool
) -> Request:
    """Lists of tokens and texts, each string quoted as JSON so that spaces and line breaks are seen."""
    sections = [f"{title}:\n{_listed(tokens)}" for title, tokens in lists.items()]
    sections.append(f"TOP_ACTIVATING_TEXTS:\n{_listed(excerpts)}")
    messages = (Message("system", load_prompt("explainers", name).template), Message("user", "\n\n".join(sections)))
    return Request(messages, sampling, answer_schema("the label") if structured else None)


def label(reply: str) -> Found | None:
    """The text behind the last "Explanation:", without quotes."""
    found = marked_line(reply)
    return None if found is None else replace(found, text=_unquoted(found.text))


def _unquoted(text: str) -> str:
    bare = text.strip('"').strip()
    return text if set(bare) <= {"-", ".", "?", "_"} else bare  # a label may be a sign, which only quotes tell


def _listed(strings: Sequence[str]) -> str:
    return "\n".join(json.dumps(string, ensure_ascii=False) for string in strings)
