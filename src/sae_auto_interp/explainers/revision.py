"""Explain, look at what the explanation gets wrong on the development pools, and explain again.

Each round shows the explainer up to `n_errors` windows that the judge took for activating ones although the feature is
silent, and as many in which it fires unnoticed, from all quantiles. A revision is kept when its balanced accuracy
on the development pools improves by more than the standard error of the (paired) difference; the first that does
not ends the rounds. Test examples are never looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from sae_auto_interp.errors import RETRYABLE_KINDS
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
from sae_auto_interp.explainers._development import DevelopmentResult, develop, no_development
from sae_auto_interp.explainers._fitting import Fewer, ask_fitting
from sae_auto_interp.explainers.simple import SimpleExplainer
from sae_auto_interp.prompting.highlights import choose_delimiters
from sae_auto_interp.prompting.marked_lines import marked_line
from sae_auto_interp.prompting.prompts import load_prompt
from sae_auto_interp.protocols import Client, Judge
from sae_auto_interp.types import Example, Explanation, Failure, FeatureRecord, Message, Request, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionExplainer:
    """The simple explainer, then at most `n_rounds` revisions."""

    name: ClassVar[str] = "revision"
    needs_development: ClassVar[bool] = True
    prompt_names: ClassVar[tuple[str, ...]] = ("simple", "revision")

    client: Client
    judge: Judge
    n_rounds: int = 2
    n_errors: int = 5
    """Wrongly judged examples of each kind that a revision is shown."""
    n_examples: int = 40
    """Training examples shown for the first explanation; a revision sees a quarter of them."""
    threshold: float = 0.3
    """Fraction of a window's maximum above which a token is marked."""
    n_shown: int = 5
    """Development examples per prompt of the judge."""
    temperature: float = 0.0
    max_tokens: int = 500
    structured: bool = True
    """Ask for JSON, by schema and in words, where the endpoint holds answers to a schema; elsewhere, or if false, for
    a line of text."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_fraction(self.name, "threshold", self.threshold)
        check_counts(
            self.name, n_rounds=self.n_rounds, n_errors=self.n_errors, n_examples=self.n_examples,
            n_shown=self.n_shown, max_tokens=self.max_tokens,
        )  # fmt: skip

    async def explain(self, record: FeatureRecord) -> Explanation | Failure:
        """The best explanation found. A reply that cannot be read ends the rounds; trouble that may heal is a Failure,
        so that a later run does not find another explanation than an undisturbed one."""
        if not record.train:
            return nothing_to_show(record.feature)
        if without_text([*record.train, *record.dev, *record.non_activating.dev]):
            return no_strings(record.feature)
        lacking = no_development(record)
        if lacking is not None:
            return lacking
        first = await self._first(record)
        if isinstance(first, Failure):
            return first
        return await self._revised(record, first)

    async def _first(self, record: FeatureRecord) -> Explanation | Failure:
        explainer = SimpleExplainer(
            self.client, threshold=self.threshold, n_examples=self.n_examples, temperature=self.temperature,
            max_tokens=self.max_tokens, structured=self.structured,
        )  # fmt: skip
        return await explainer.explain(record)

    async def _revised(self, record: FeatureRecord, best: Explanation) -> Explanation | Failure:
        result = await self._judged(record, best)
        if isinstance(result, Failure):
            return result
        spent, tried, chosen = best.usage + result.usage, [(best.text, result)], 0
        for _ in range(self.n_rounds):
            missed, mistaken = self._errors(record, result)
            if not missed and not mistaken:
                break
            outcome = await self._next(record, best, missed, mistaken)
            if isinstance(outcome, Failure):
                if outcome.kind in RETRYABLE_KINDS:
                    return outcome
                break
            judged = await self._judged(record, outcome)
            if isinstance(judged, Failure):
                return judged
            spent += outcome.usage + judged.usage
            tried.append((outcome.text, judged))
            if not judged.improves_on(result):
                break
            best, result, chosen = outcome, judged, len(tried) - 1
        candidates = tuple(found.candidate(text, is_chosen=i == chosen) for i, (text, found) in enumerate(tried))
        return replace(best, explainer=self.name, usage=spent, candidates=candidates)

    async def _judged(self, record: FeatureRecord, explanation: Explanation) -> DevelopmentResult | Failure:
        return await develop(self.judge, explanation.text, record, n_shown=self.n_shown, seed=self.seed)

    async def _next(
        self, record: FeatureRecord, best: Explanation, missed: Sequence[Example], mistaken: Sequence[Example]
    ) -> Explanation | Failure:
        prompts = [load_prompt("explainers", self.name)]
        reading = Reading(self.name, prompts, marked_line, MARKED_LINE)
        n = min(max(1, self.n_examples // 4), len(record.train))

        def request(n_shown: int) -> Request:
            n_errors = max(1, self.n_errors * n_shown // n)
            shown = replace(self, n_examples=4 * n_shown)
            return shown.request(record, best.text, missed[:n_errors], mistaken[:n_errors])

        fewer = Fewer(n, request, f"explainers.{self.name}.n_examples and n_errors")
        return await ask_fitting(self.client, record.feature, reading, fewer)

    def request(
        self, record: FeatureRecord, text: str, missed: Sequence[Example], mistaken: Sequence[Example]
    ) -> Request:
        """The request for a revision of `text`, which missed activating examples and took silent ones for active."""
        shown = strongest_first(record.train, max(1, self.n_examples // 4))
        opening, closing = delimiters = choose_delimiters(e.text for e in [*shown, *missed, *mistaken])
        sections = [
            f"DESCRIPTION: {text}",
            _section("FIRES", [marked(example, self.threshold, delimiters) for example in shown]),
            _section("SILENT, BUT EXPECTED TO FIRE", [example.text for example in mistaken]),
            _section("FIRES, BUT NOT EXPECTED TO", [marked(example, self.threshold, delimiters) for example in missed]),
        ]
        system = load_prompt("explainers", self.name).fill(opening=opening, closing=closing)
        messages = (Message("system", system), Message("user", "\n\n".join(s for s in sections if s)))
        schema = answer_schema(JSON_ANSWER) if self.structured else None
        return Request(messages, Sampling(self.temperature, self.max_tokens), schema)

    def _errors(self, record: FeatureRecord, result: DevelopmentResult) -> tuple[list[Example], list[Example]]:
        """Activating examples that were missed, from all quantiles, and silent ones that were taken for active."""
        missed = [e for e, verdict in zip(record.dev, result.activating, strict=True) if verdict is False]
        silent = zip(record.non_activating.dev, result.silent, strict=True)
        return strongest_first(missed, self.n_errors), [e for e, verdict in silent if verdict is True][: self.n_errors]


def _section(title: str, texts: Sequence[str]) -> str:
    return "" if not texts else f"{title}:\n\n" + "\n\n".join(f"{i}. {text}" for i, text in enumerate(texts, 1))
