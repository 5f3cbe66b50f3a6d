"""Neuronpedia's `np_max-act-logits`: a label from what the feature reads and from what it writes.

Beside the peak tokens and their texts it shows the tokens that follow the peaks and the tokens whose logits the feature
raises most: features of late layers are often about what comes next ("say X").
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from sae_auto_interp.explainers._asking import check_counts, no_strings, nothing_to_show, peak, without_text
from sae_auto_interp.explainers._fitting import Fewer, ask_fitting
from sae_auto_interp.explainers.max_activation import label_reading, label_request, peak_tokens, strongest, texts
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Example, Explanation, Failure, FeatureRecord, Request, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxActivationLogitsExplainer:
    """One request per feature; a record without logits is a Failure."""

    name: ClassVar[str] = "max_activation_logits"
    needs_logits: ClassVar[bool] = True

    client: Client
    n_examples: int = 10
    n_context: int = 24
    """Tokens shown on each side of the peak."""
    n_logits: int = 10
    """Tokens with the highest logits that are shown."""
    temperature: float = 0.0
    max_tokens: int = 200
    structured: bool = True
    """Ask for JSON, by schema and in words, where the endpoint holds answers to a schema; elsewhere, or if false, for
    a line of text."""

    def __post_init__(self) -> None:
        check_counts(
            self.name, n_examples=self.n_examples, n_context=self.n_context, n_logits=self.n_logits,
            max_tokens=self.max_tokens,
        )  # fmt: skip

    async def explain(self, record: FeatureRecord) -> Explanation | Failure:
        if not record.train:
            return nothing_to_show(record.feature)
        if without_text(record.train):
            return no_strings(record.feature)
        if record.logits is None:
            return Failure("explain", "no_logits", f"{record.feature}: the record holds no logits of its tokens")
        n = min(self.n_examples, len(record.train))
        fewer = Fewer(n, lambda n: replace(self, n_examples=n).request(record), f"explainers.{self.name}.n_examples")
        return await ask_fitting(self.client, record.feature, label_reading(self.name), fewer)

    def request(self, record: FeatureRecord) -> Request:
        """The request for one feature with logits; the same record gives the same request."""
        examples = strongest(record.train, self.n_examples)
        top = record.logits.top if record.logits is not None else ()
        lists = {
            "MAX_ACTIVATING_TOKENS": peak_tokens(examples),
            "TOKENS_AFTER_MAX_ACTIVATING_TOKEN": [after for e in examples if (after := _next_token(e))],
            "TOP_POSITIVE_LOGITS": [token for token, _ in top[: self.n_logits]],
        }
        return label_request(
            self.name,
            lists,
            texts(examples, self.n_context),
            Sampling(self.temperature, self.max_tokens),
            self.structured,
        )


def _next_token(example: Example) -> str:
    """What follows the peak; nothing where the window ends there."""
    return "".join(example.str_tokens[peak(example) + 1 : peak(example) + 2])
