"""Models that simulate a planted feature by a rule, one for each way of asking, and the scorers around them."""

import asyncio
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.metrics import simulation_metrics
from sae_auto_interp.scorers import (
    AllAtOnceSimulationScorer,
    SimulationScorer,
    TokenByTokenSimulationScorer,
)
from sae_auto_interp.types import Estimate, Example, FeatureRecord, Request, Response, Score, TokenLogprob, Usage
from tests.support.evidence import explanation_of, make_evidence, make_example, planted_record
from tests.support.prompt_readers import PlacedReader

AnyScorer = SimulationScorer | AllAtOnceSimulationScorer | TokenByTokenSimulationScorer
Level = Callable[[Sequence[str], int], float]
"""(tokens of a window, place) -> the level that a simulator gives."""


def fires(tokens: Sequence[str], i: int) -> bool:
    return tokens[i] == " cat"


def numbered(examples: Sequence[Example]) -> tuple[Example, ...]:
    """Each window behind a token of its own, so that how it begins tells which it is."""
    return tuple(
        make_example([f"#{e.document}", *e.str_tokens], [0, *e.activations.tolist()], document=e.document)
        for e in examples
    )


PLANTED = planted_record(fires, n=12)
RECORD = make_evidence(
    numbered(PLANTED.train),
    numbered(PLANTED.test),
    numbered(PLANTED.non_activating.explain),
    numbered(PLANTED.non_activating.test),
)
TRUTH = {
    e.str_tokens: [float(a) for a in e.activations] for e in (*RECORD.test, *RECORD.non_activating.test, *RECORD.train,
                                                              *RECORD.non_activating.explain)
}  # fmt: skip

BEGINNINGS = {"".join(tokens[: i + 1]): (tokens, i) for tokens in TRUTH for i in range(len(tokens))}


def true_level(tokens: Sequence[str], i: int) -> float:
    """The strongest training activation is 9."""
    return TRUTH[tuple(tokens)][i]


def listing(level: Level) -> Callable[[Request], str]:
    """A chat model that lists levels."""

    def answer(request: Request) -> str:
        tokens = json.loads(request.messages[-1].content.partition(" tokens: ")[2])
        return json.dumps({"tokens": [{"token": t, "level": level(tokens, i)} for i, t in enumerate(tokens)]})

    return answer


def reading(level: Level, mark: str = "?") -> Callable[[str], Mapping[int, Mapping[str, float]]]:
    """A model that puts all it gives to numbers on the two levels around the one that it means."""

    def placed(text: str) -> dict[int, dict[str, float]]:
        offset = text.rindex("<start>\n") + len("<start>\n")
        lines = text[offset : text.rindex("<end>")].removesuffix("\n").split("\n")
        tokens = [line.removesuffix(f"\t{mark}").replace("\\n", "\n") for line in lines]
        found: dict[int, dict[str, float]] = {}
        for i, line in enumerate(lines):
            found[offset + len(line) - len(mark)] = spread(level(tokens, i))
            offset += len(line) + 1
        return found

    return placed


def spread(level: float) -> dict[str, float]:
    """Probabilities whose expected level is `level`, most of the mass on what is no level."""
    low, share = int(level), level - int(level)
    weights = {str(low): 0.3 * (1 - share), str(low + 1): 0.3 * share, " 7": 0.5, "foo": 0.2}
    return {text: p for text, p in weights.items() if p > 0}


def answering(level: Level) -> Callable[[Request], Response]:
    """A chat model that answers for one token. It finds the window by how it begins."""

    def answer(request: Request) -> Response:
        shown = json.loads(request.messages[-1].content.partition("Text: ")[2].partition("\nLast token: ")[0])
        window, i = BEGINNINGS[shown]
        alternatives = {text: math.log(p) for text, p in spread(level(window, i)).items()}
        return Response("0", Usage(50, 1, 1), "length", "m", (TokenLogprob("0", -1.0, alternatives),))

    return answer


def made(kind: str, level: Level, **settings: Any) -> AnyScorer:
    if kind == "listing":
        return SimulationScorer(client=ScriptedClient(listing(level)), **settings)
    if kind == "all_at_once":
        return AllAtOnceSimulationScorer(reader=PlacedReader(reading(level)), **settings)
    settings.setdefault("n_windows", None)
    return TokenByTokenSimulationScorer(client=ScriptedClient(answering(level)), **settings)


KINDS = ["listing", "all_at_once", "token_by_token"]


def score_of(scorer: AnyScorer, record: FeatureRecord = RECORD) -> Score:
    return asyncio.run(scorer.score(record, explanation_of(record), "e1"))


def correlation(score: Score) -> Estimate:
    return simulation_metrics(score, np.random.default_rng(0), n_resamples=20).ev_correlation


def biased(tokens: Sequence[str], i: int) -> float:
    """Right in order, wrong in unit and zero."""
    return 2 + true_level(tokens, i) / 3
