"""How many requests a run will make and how long they are, by putting a few records through its own components.

The explainers and scorers of the run file are made as for a run, with a client whose answers have the form that is
asked for and no sense. What they ask is counted in tokens by `plan_tokens`: the provider's tokenizer is not at hand.

About how many tokens messages are to a language model whose tokenizer is not at hand, or is known better.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from sae_auto_interp.pipeline.components import ResolvedComponent
from sae_auto_interp.pipeline.judged_scorers import JudgedScorer, blind_scorers_of
from sae_auto_interp.pipeline.resolved import Components, ResolvedExplainer
from sae_auto_interp.prompting.token_count import CHAT_TEMPLATE_TOKENS, estimated_tokens
from sae_auto_interp.protocols import Client, Judge
from sae_auto_interp.types import Explanation, Failure, FeatureRecord, Request, Response, Score, Usage

__all__ = ["estimated_tokens", "message_tokens"]


def message_tokens(text: str, characters_per_token: float | None = None) -> int:
    """Tokens of a message of a chat; `characters_per_token` is for a tokenizer that is known better."""
    tokens = estimated_tokens(text) if characters_per_token is None else round(len(text) / characters_per_token)
    return tokens + CHAT_TEMPLATE_TOKENS


EXPLANATION = "explanation"
"""The field of an explainer's answer."""


SENTENCE = "tokens that name a month or a day of the week, mostly inside of dates in news and in letters"
"""As long as an explanation is."""


_MARKED = f"Explanation: {SENTENCE}\nThis neuron activates on {SENTENCE}\n[EXPLANATION]: {SENTENCE}"


@dataclass(frozen=True, eq=False)
class PlanningClient:
    """Answers in the form that is asked for, and counts."""

    model: str = "planned"
    characters_per_token: float | None = None
    asked: list[Usage] = field(default_factory=list[Usage])

    async def generate(self, request: Request) -> Response:
        is_explanation = request.schema is None or EXPLANATION in json.loads(request.schema).get("properties", {})
        text = _MARKED if is_explanation else json.dumps(_least_instance(json.loads(request.schema or "{}")))
        prompt = sum(message_tokens(message.content, self.characters_per_token) for message in request.messages)
        self.asked.append(Usage(prompt, estimated_tokens(SENTENCE if is_explanation else text), 1))
        return Response(text, Usage(n_requests=1), "stop", self.model)

    async def close(self) -> None:
        """Nothing is open."""

    def take(self) -> Usage:
        """What was asked since the last time."""
        total = sum(self.asked, Usage())
        self.asked.clear()
        return total


@dataclass(frozen=True, slots=True)
class Planned:
    """One record's requests under one explainer, and what is stored of it."""

    explain: Usage
    score: Usage
    control: Usage
    """Scores of another feature's explanation."""
    scores: tuple[Score, ...]
    probe: Usage
    """The questions that are also put with the explanation hidden."""


async def planned(
    components: Components, records: Sequence[FeatureRecord], characters_per_token: float | None = None
) -> list[list[Planned]]:
    """What each record takes under each explainer. Without the scorers that are `left_out`."""
    return [
        [
            await _of_record(explainer, components.scorers, record, characters_per_token, is_first=number == 0)
            for number, explainer in enumerate(components.explainers)
        ]
        for record in records
    ]  # fmt: skip


def left_out(scorers: Sequence[ResolvedComponent]) -> list[str]:
    """Scorers that need more than a client and a judge (embeddings, rated texts, the subject model): not planned."""
    return [scorer.name for scorer in scorers if not scorer.works_with <= {Client, Judge}]


async def _of_record(
    explainer: ResolvedExplainer,
    scorers: Sequence[ResolvedComponent],
    record: FeatureRecord,
    characters_per_token: float | None,
    *,
    is_first: bool,
) -> Planned:
    """`is_first`: of the run's explainers; the blind baseline asks once for all of them."""
    client = PlanningClient(characters_per_token=characters_per_token)
    given: dict[type, Any] = {Client: client}
    judge: Judge = explainer.judge.build(given)
    built = explainer.explainer.build(given | {Judge: judge})
    outcome = await built.explain(record)
    explained = client.take()
    if isinstance(outcome, Failure):
        outcome = Explanation(record.feature, SENTENCE, built.name, "planned")
    scored = control = probe = Usage()
    scores: list[Score] = []
    passed_over = left_out(scorers)
    for scorer in scorers:
        if scorer.name in passed_over:
            continue
        measure = scorer.build(given | {Judge: judge})
        scores.append(await measure.score(record, outcome, "planned"))
        cost = client.take()
        scored += cost
        if getattr(scorer.component, "reads_explanation", True):
            control += cost
        if is_first and blind_scorers_of(
            [JudgedScorer(measure, str(getattr(getattr(measure, "judge", judge), "name", "")))]
        ):
            probe += cost
    return Planned(explained, scored, control, tuple(scores), probe)


def _least_instance(schema: object) -> object:
    """The shortest value that a JSON schema allows, of the schemas that judges send."""
    fields = cast("dict[str, Any]", schema)
    if "enum" in fields:
        return fields["enum"][0]
    kind = fields.get("type")
    if kind == "object":
        return {name: _least_instance(each) for name, each in fields.get("properties", {}).items()}
    if kind == "array":
        return [_least_instance(fields.get("items", {}))] * int(fields.get("minItems", 0))
    return {"integer": 0, "number": 0, "boolean": False}.get(str(kind), "word")
