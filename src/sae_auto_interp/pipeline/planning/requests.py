"""How many requests a run will make and how long they are, by putting a few records through its own components.

The explainers and scorers of the run file are made as for a run, with a client whose answers have the form that is
asked for and no sense. What they ask is counted in tokens by `plan_tokens`: the provider's tokenizer is not at hand.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from sae_auto_interp.config import RunConfig
from sae_auto_interp.pipeline.components import build_component, collaborators_of, seeded
from sae_auto_interp.pipeline.judged_scorers import Measure, probes_of
from sae_auto_interp.pipeline.plan_tokens import estimated_tokens, message_tokens
from sae_auto_interp.protocols import Client, Judge
from sae_auto_interp.registry import load_component
from sae_auto_interp.types import Explanation, Failure, FeatureRecord, Request, Response, Score, Usage

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
        text = _MARKED if request.schema is None else json.dumps(_least_instance(json.loads(request.schema)))
        prompt = sum(message_tokens(message.content, self.characters_per_token) for message in request.messages)
        self.asked.append(Usage(prompt, estimated_tokens(SENTENCE if request.schema is None else text), 1))
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
    config: RunConfig, records: Sequence[FeatureRecord], characters_per_token: float | None = None
) -> list[list[Planned]]:
    """What each record takes under each explainer. Without the scorers that are `left_out`."""
    return [
        [
            await _of_record(config, number, record, characters_per_token)
            for number in range(len(config.explainers))
        ]
        for record in records
    ]  # fmt: skip


def left_out(config: RunConfig) -> list[str]:
    """Scorers that need more than a client and a judge (embeddings, rated texts, the subject model): not planned."""
    return [s.name for s in config.scorers if not collaborators_of("scorers", s) <= {Client, Judge}]


async def _of_record(
    config: RunConfig, number: int, record: FeatureRecord, characters_per_token: float | None
) -> Planned:
    explainer, client = config.explainers[number], PlanningClient(characters_per_token=characters_per_token)
    given: dict[type, Any] = {Client: client}
    judge: Judge = build_component("judges", explainer.judge_config, given)
    built = build_component("explainers", seeded("explainers", explainer, config.seed), given | {Judge: judge})
    outcome = await built.explain(record)
    explained = client.take()
    if isinstance(outcome, Failure):
        outcome = Explanation(record.feature, SENTENCE, built.name, "planned")
    scored = control = probe = Usage()
    scores: list[Score] = []
    for scorer in config.scorers:
        if scorer.name in left_out(config):
            continue
        measure = build_component("scorers", seeded("scorers", scorer, config.seed), given | {Judge: judge})
        scores.append(await measure.score(record, outcome, "planned"))
        cost = client.take()
        scored += cost
        if getattr(load_component("scorers", scorer.name), "reads_explanation", True):
            control += cost
        if number == 0 and probes_of([Measure(measure, str(getattr(getattr(measure, "judge", judge), "name", "")))]):
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
