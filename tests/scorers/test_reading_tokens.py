"""What scorers cost that read given texts or ask a model without a judge: as `test_prompt_tokens`, with its tokenizer.

Tabs and line breaks, which WordPiece does not count and other tokenizers do, count as tokens here.
"""

import asyncio
import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.registry import load_component
from sae_auto_interp.types import PromptLogprobs, PromptRequest, Request, Response, TokenLogprob, Usage
from tests.scorers.test_generation import WordActivations
from tests.scorers.test_prompt_tokens import EXPLANATION, PER_MESSAGE, Counting, ids, record, rows
from tests.support.evidence import explanation_of
from tests.support.prompt_readers import WORDS

PAPER = {"simulation": 496_900, "simulation_all_at_once": 104_900}
"""Prompt tokens per 100 examples in table 1 of arXiv 2410.13928; what it calls token by token is a listing."""
SCORERS = [*PAPER, "simulation_token_by_token", "surprisal", "generation", "sensitivity"]


class Reading(Counting):
    """Also a reader of texts."""

    model = "counting"

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    async def read(self, request: PromptRequest) -> PromptLogprobs:
        self.texts.append(request.text)
        tokens = tuple(TokenLogprob(m[0], -1.0, {"0": -1.0}) for m in WORDS.finditer(request.text))
        return PromptLogprobs(tokens, Usage(), self.model)

    async def close(self) -> None: ...

    def __call__(self, request: Request) -> Any:
        question = request.messages[-1].content
        if request.top_logprobs:
            reply = "0"
        elif " tokens: " in question:
            tokens = json.loads(question.partition(" tokens: ")[2])
            reply = json.dumps({"tokens": [{"token": token, "level": 0} for token in tokens]})
        else:
            reply = json.dumps({"texts": [f"{i} {EXPLANATION}. {EXPLANATION}" for i in range(10)]})
        self.texts.append("\n".join(message.content for message in request.messages))
        self.requests.append(request)
        self.replies.append(reply)
        return Response(reply, Usage(), "stop", self.model, (TokenLogprob("0", -1.0, {"0": -1.0}),))


@cache
def counted(scorer: str) -> tuple[int, ...]:
    """Windows shown, requests, prompt tokens, shared ones, reply tokens."""
    reading, evidence = Reading(), replace(record(), train=record().test)  # as long ones, whatever they say
    client = ScriptedClient(reading)
    given = {"client": client, "reader": WordActivations() if scorer in ("generation", "sensitivity") else reading}
    fields = load_component("scorers", scorer).__dataclass_fields__
    component: Any = load_component("scorers", scorer)(**{k: v for k, v in given.items() if k in fields})
    score = asyncio.run(component.score(evidence, explanation_of(evidence, EXPLANATION), "e"))
    assert not score.failures
    n_shown = 0 if scorer in ("generation", "sensitivity") else len(score.trials) or len(score.simulations)
    prompt = sum(_n_tokens(text) for text in reading.texts) + PER_MESSAGE * sum(
        len(request.messages) for request in reading.requests
    )
    shared = sum(_n_shared(a, b) for a, b in zip(reading.texts, reading.texts[1:], strict=False))
    return n_shown, len(reading.texts), prompt, shared, reading.completion


def _n_tokens(text: str) -> int:
    return len(ids(text)) + text.count("\t") + text.count("\n")


def _n_shared(first: str, second: str) -> int:
    """Tokens of what the second begins with as the first does."""
    n = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
    return _n_tokens(first[:n])


@pytest.mark.parametrize("scorer", SCORERS)
def test_the_table_in_the_docs_says_what_is_counted(scorer: str) -> None:
    assert rows().get(scorer) == counted(scorer), f"{scorer}: {counted(scorer)}"


@pytest.mark.parametrize("scorer", PAPER)
def test_100_examples_cost_less_than_in_the_paper(scorer: str) -> None:
    assert counted(scorer)[:2] == (100, 100)
    assert counted(scorer)[2] <= PAPER[scorer]
