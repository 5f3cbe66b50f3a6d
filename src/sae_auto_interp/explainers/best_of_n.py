"""Several explanations by sampling, of which the development pools choose one (best-of-n).

The one that is kept was never judged on a test example: the maximum of n scores on the data they are reported on would
be flattered by chance alone (Transluce and PRISM choose and report on the same kind of data).
"""

import asyncio
from dataclasses import dataclass, replace
from typing import ClassVar

from sae_auto_interp.errors import RETRYABLE_KINDS
from sae_auto_interp.explainers._asking import check_counts, check_fraction, no_strings, nothing_to_show, without_text
from sae_auto_interp.explainers._development import DevelopmentResult, develop, no_development
from sae_auto_interp.explainers.simple import SimpleExplainer
from sae_auto_interp.protocols import Client, Judge
from sae_auto_interp.types import Explanation, Failure, FeatureRecord, Request, Response, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfNExplainer:
    """`n` explanations of the simple explainer at `temperature`; equal ones are judged once."""

    name: ClassVar[str] = "best_of_n"
    needs_development: ClassVar[bool] = True
    prompt_names: ClassVar[tuple[str, ...]] = ("simple",)

    client: Client
    judge: Judge
    n: int = 5
    temperature: float = 1.0
    threshold: float = 0.3
    """Fraction of a window's maximum above which a token is marked."""
    n_examples: int = 40
    n_shown: int = 5
    """Development examples per prompt of the judge."""
    max_tokens: int = 500
    structured: bool = True
    """Ask for JSON, by schema and in words, where the endpoint holds answers to a schema; elsewhere, or if false, for
    a line of text."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_fraction(self.name, "threshold", self.threshold)
        check_counts(self.name, n=self.n, n_examples=self.n_examples, n_shown=self.n_shown, max_tokens=self.max_tokens)

    async def explain(self, record: FeatureRecord) -> Explanation | Failure:
        if not record.train:
            return nothing_to_show(record.feature)
        if without_text(record.train):
            return no_strings(record.feature)
        lacking = no_development(record)
        if lacking is not None:
            return lacking
        candidates = await asyncio.gather(*(self._candidate(record, i) for i in range(self.n)))
        failures = [candidate for candidate in candidates if isinstance(candidate, Failure)]
        found = [candidate for candidate in candidates if isinstance(candidate, Explanation)]
        if not found or any(failure.kind in RETRYABLE_KINDS for failure in failures):
            return next((f for f in failures if f.kind in RETRYABLE_KINDS), failures[0])
        return await self._chosen(record, found)

    async def _candidate(self, record: FeatureRecord, i: int) -> Explanation | Failure:
        client = _Seeded(self.client, self.seed + i)
        explainer = SimpleExplainer(
            client, threshold=self.threshold, n_examples=self.n_examples, temperature=self.temperature,
            max_tokens=self.max_tokens, structured=self.structured,
        )  # fmt: skip
        return await explainer.explain(record)

    async def _chosen(self, record: FeatureRecord, found: list[Explanation]) -> Explanation | Failure:
        texts = list(dict.fromkeys(candidate.text for candidate in found))
        results = await asyncio.gather(
            *(develop(self.judge, text, record, n_shown=self.n_shown, seed=self.seed) for text in texts)
        )
        judged = [result for result in results if isinstance(result, DevelopmentResult)]
        if len(judged) < len(results):
            return next(result for result in results if isinstance(result, Failure))
        best = _best(judged)
        if best is None:
            return Failure("explain", "not_judged", f"{record.feature}: no candidate could be judged on its dev pools")
        spent = sum((c.usage for c in found), sum((r.usage for r in judged), Usage()))
        chosen = next(candidate for candidate in found if candidate.text == texts[best])
        tried = tuple(
            result.candidate(text, is_chosen=i == best)
            for i, (text, result) in enumerate(zip(texts, judged, strict=True))
        )
        return replace(chosen, explainer=self.name, usage=spent, candidates=tried)


def _best(results: list[DevelopmentResult]) -> int | None:
    """The candidate of highest balanced accuracy; of equal ones the first. None when none could be judged."""
    scores = {i: score for i, result in enumerate(results) if (score := result.balanced_accuracy) is not None}
    return max(scores, key=lambda i: scores[i]) if scores else None


@dataclass(frozen=True, slots=True)
class _Seeded:
    """Gives each candidate's request a seed of its own: servers and response caches would else answer all alike."""

    client: Client
    seed: int

    @property
    def model(self) -> str:
        return self.client.model

    async def generate(self, request: Request) -> Response:
        seed = self.seed + (request.sampling.seed or 0)  # which one has where it is asked again
        return await self.client.generate(replace(request, sampling=replace(request.sampling, seed=seed)))

    async def close(self) -> None:
        """The run closes its client."""
