"""Surprisal: is a text less surprising to a language model that was told the explanation? Chance is AUROC 0.5.

For each test window x, with z the explanation and z0 a description that says nothing (arXiv 2410.13928, section 3.3.3):

    s(x) = log p(x | z) - log p(x | z0)    in nats, summed over the tokens of x

where the model reads the same two worked examples before either. `confidence` is s, so AUROC asks whether s is larger
on windows in which the feature fires; `prediction` is s > 0, the verdict of the likelihood ratio. The sum runs over
the reader's tokens that hold any of the window's text, the same ones under z and z0. `per_token` divides by their
number, for windows of different lengths. A base model serves best: it needs no chat form, and none is used.
"""

import asyncio
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sae_auto_interp.errors import ClientError
from sae_auto_interp.prompting.prompts import load_prompt
from sae_auto_interp.protocols import PromptReader
from sae_auto_interp.scorers._questions import NO_TEXT
from sae_auto_interp.types import (
    Example,
    Explanation,
    Failure,
    FeatureRecord,
    PromptRequest,
    Score,
    TokenLogprob,
    Trial,
    Usage,
)

BASELINE = "text of any kind"


@dataclass(frozen=True, slots=True, kw_only=True)
class SurprisalScorer:
    """Two readings per test example."""

    name: ClassVar[str] = "surprisal"

    reader: PromptReader
    baseline: str = BASELINE
    """The description that says nothing; the paper's is "Various unrelated sentences."."""
    per_token: bool = False
    """Divide s by the window's number of tokens."""

    @property
    def judged_by(self) -> str:
        return f"llm:{self.reader.model}"

    async def score(self, record: FeatureRecord, explanation: Explanation, explanation_id: str) -> Score:
        examples = [(e, True) for e in record.test] + [(e, False) for e in record.non_activating.test]
        gains = await asyncio.gather(*(self._gain(explanation.text, example.text) for example, _ in examples))
        trials = (_trial(e, target, gain) for (e, target), (gain, _) in zip(examples, gains, strict=True))
        usage = sum((spent for _, spent in gains), Usage())
        return Score(record.feature, self.name, explanation_id, "classification", tuple(trials), usage)

    def request(self, description: str, text: str) -> tuple[PromptRequest, int]:
        """What is read, and the offset at which the window's text begins."""
        head = load_prompt("scorers", self.name).fill(explanation=description) + "\n"
        return PromptRequest(head + text), len(head)

    async def _gain(self, explanation: str, text: str) -> tuple[float | Failure, Usage]:
        """s of one window."""
        if not text:
            return NO_TEXT, Usage()
        (told, cost), (untold, other) = await asyncio.gather(
            self._logprobs(explanation, text), self._logprobs(self.baseline, text)
        )
        return self._difference(told, untold), cost + other

    def _difference(
        self, told: Sequence[TokenLogprob] | Failure, untold: Sequence[TokenLogprob] | Failure
    ) -> float | Failure:
        if isinstance(told, Failure):
            return told
        if isinstance(untold, Failure):
            return untold
        if [token.token for token in told] != [token.token for token in untold]:
            return Failure("score", "not_aligned", "the reader splits the window otherwise after another description")
        gain = sum(token.logprob for token in told) - sum(token.logprob for token in untold)
        if not math.isfinite(gain):
            return Failure("score", "no_probability", "the reader gave some token of the window no probability")
        return gain / len(told) if self.per_token else gain

    async def _logprobs(self, description: str, text: str) -> tuple[Sequence[TokenLogprob] | Failure, Usage]:
        """The tokens that hold any of the window's text, in order."""
        request, begin = self.request(description, text)
        try:
            found = await self.reader.read(request)
        except ClientError as error:
            return Failure("score", error.kind, str(error)), Usage(n_requests=1)
        return _from(found.tokens, begin), found.usage


def _from(tokens: Sequence[TokenLogprob], begin: int) -> list[TokenLogprob]:
    """The tokens that end after the offset `begin`."""
    ends = itertools.accumulate(len(token.token) for token in tokens)
    return [token for token, end in zip(tokens, ends, strict=True) if end > begin]


def _trial(example: Example, target: bool, gain: float | Failure) -> Trial:
    failure = gain if isinstance(gain, Failure) else None
    return Trial(
        target=target,
        prediction=None if isinstance(gain, Failure) else gain > 0,
        confidence=None if isinstance(gain, Failure) else gain,
        source=example.source,
        quantile=example.quantile,
        document=example.document,
        failure=failure,
    )
