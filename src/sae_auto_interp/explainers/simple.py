"""The simple explainer: show a language model the training examples, with marks and activations, and ask once.

The form follows delphi's default explainer (arXiv 2410.13928, section 3.2, appendix B): marks on tokens above a
fraction of the window's maximum, an optional list of the strongest tokens with activations from 0 to 10 (floor), one
worked example, and an answer on a line of its own. A reply without that line is a Failure, never an explanation.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np

from sae_auto_interp.errors import ClientError
from sae_auto_interp.highlights import choose_delimiters, highlighted_tokens, marked_text, normalised_activations
from sae_auto_interp.prompts import load_prompt
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Example, Explanation, Failure, FeatureRecord, Message, Request, Sampling

_ANSWER = re.compile(r"\[EXPLANATION\]:[ \t]*(.*)", re.DOTALL)
MOST_LISTED_TOKENS = 10


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

    async def explain(self, record: FeatureRecord) -> Explanation | Failure:
        """Ask once; a server's or a parser's trouble comes back as a Failure."""
        try:
            response = await self.client.generate(self.request(record))
        except ClientError as error:
            return Failure("explain", error.kind, str(error))
        text = parse_explanation(response.text)
        if text is None:
            reason = "was cut off before" if response.finish_reason == "length" else "has no"
            return Failure("explain", "unparsable", f"the reply {reason} a line '[EXPLANATION]: ...'", response.text)
        return Explanation(record.feature, text, self.name, load_prompt("explainers", "simple").id, response.usage)

    def request(self, record: FeatureRecord) -> Request:
        """The request for one feature; the same record gives the same request."""
        examples = _spread(record.train, self.n_examples)
        strings = [self._strings(example) for example in examples]
        opening, closing = delimiters = choose_delimiters("".join(s) for s in strings)
        largest = max(example.max_activation for example in examples)
        shown = [self._shown(i, e, s, delimiters, largest) for i, (e, s) in enumerate(zip(examples, strings, strict=True), 1)]
        parts = ("simple", "simple_example_user", "simple_example_assistant")
        system, user, assistant = (load_prompt("explainers", p).fill(opening=opening, closing=closing) for p in parts)
        messages = (
            Message("system", system), Message("user", user), Message("assistant", assistant),
            Message("user", "\n\n".join(shown)),
        )  # fmt: skip
        return Request(messages, Sampling(self.temperature, self.max_tokens))

    def _shown(self, number: int, example: Example, strings: Sequence[str], delimiters: tuple[str, str], largest: float) -> str:
        marked = highlighted_tokens(example.activations, self.threshold)
        text = f"Excerpt {number}: {marked_text(strings, marked, delimiters)}"
        if not self.show_activations:
            return text
        levels = normalised_activations(example.activations, largest)
        strongest = np.flatnonzero(marked)[np.argsort(-example.activations[marked], kind="stable")][:MOST_LISTED_TOKENS]
        listed = ", ".join(f"({json.dumps(strings[i], ensure_ascii=False)}, {max(1, levels[i])})" for i in strongest)
        return f"{text}\nStrongest tokens: {listed}"

    def _strings(self, example: Example) -> Sequence[str]:
        if example.str_tokens or self.tokenizer is None:
            return example.str_tokens
        return [self.tokenizer.decode([int(token)]) for token in example.tokens]


def parse_explanation(reply: str) -> str | None:
    """The text after the last `[EXPLANATION]:`, or None when there is none or it is empty.

    >>> parse_explanation("x [EXPLANATION]: foo \\n")
    'foo'
    """
    found = _ANSWER.search(reply[max(0, reply.rfind("[EXPLANATION]:")) :])
    text = found.group(1).strip() if found else ""
    return text or None


def _spread(examples: Sequence[Example], n: int) -> list[Example]:
    """At most `n` examples, evenly from first to last."""
    chosen = np.unique(np.linspace(0, len(examples) - 1, min(n, len(examples))).round().astype(int))
    return [examples[i] for i in chosen]
