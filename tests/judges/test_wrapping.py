"""Judges made of other things: the probe that hides the explanation, and Python functions."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.errors import ConfigError
from sae_auto_interp.judges import FunctionJudge, HiddenJudge, LlmJudge
from sae_auto_interp.judges.hidden import HIDDEN
from sae_auto_interp.scorers import DetectionScorer, FuzzingScorer
from sae_auto_interp.types import Failure, Request, ShownExample, Usage, Verdict
from tests.metrics.scores import assert_rate
from tests.support.evidence import explanation_of, planted_record

CAT, DOG = ShownExample(("a", " cat")), ShownExample(("a", " dog"))


def mentions(explanation: str, shown: ShownExample) -> bool:
    return explanation in "".join(shown.str_tokens)


def verdicts(function: Callable[..., Any] | str, **settings: float) -> list[Verdict | Failure]:
    judge = FunctionJudge(function=function, **settings)
    found, usage = asyncio.run(judge.judge("cat", [CAT, DOG], "detection"))
    assert usage == Usage()
    return found


def test_a_function_says_yes_or_no_or_how_probably() -> None:
    assert verdicts(mentions) == [Verdict(True), Verdict(False)]
    assert verdicts(lambda e, s: 0.7 if mentions(e, s) else 0.2) == [Verdict(True, 0.7), Verdict(False, 0.2)]
    assert verdicts(lambda e, s: 0.7, threshold=0.8) == [Verdict(False, 0.7)] * 2
    refused = Failure("score", "refused", "no")
    assert verdicts(lambda e, s: refused) == [refused] * 2


@pytest.mark.parametrize("answer", [1.5, -0.1, None, "yes", float("nan")])
def test_any_other_answer_is_refused(answer: object) -> None:
    with pytest.raises(ConfigError, match="return True, False, a probability or a Failure"):
        verdicts(lambda e, s: answer)


def test_a_function_is_found_by_its_address() -> None:
    address = "operator:contains"
    assert FunctionJudge(function=address).name == "function:operator:contains"
    assert FunctionJudge(function=mentions).name == "function:mentions"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("operator", "write package.module:function"),
        (":contains", "write package.module:function"),
        ("no_such_module_here:f", "cannot be imported"),
        ("operator:contain", "has no function 'contain'"),
    ],
)
def test_mistakes_in_an_address_are_named_when_the_judge_is_made(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FunctionJudge(function=address)


class Remembering:
    """Answers by a function of the request, and keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> str:
        self.requests.append(request)
        n = request.messages[1].content.count("Excerpt ")
        value = sum(map(ord, request.messages[1].content))
        return str([(value >> i) & 1 for i in range(n)])


def test_the_probe_asks_the_same_but_for_the_explanation() -> None:
    told, untold = Remembering(), Remembering()
    examples = [CAT, DOG]
    asyncio.run(LlmJudge(client=ScriptedClient(told)).judge("cats", examples, "detection"))
    hidden = HiddenJudge(of=LlmJudge(client=ScriptedClient(untold, model="llama")))
    asyncio.run(hidden.judge("cats", examples, "detection"))
    assert hidden.name == "hidden:llm:llama"
    assert untold.requests[0].messages[0] == told.requests[0].messages[0]
    assert untold.requests[0].messages[1].content == told.requests[0].messages[1].content.replace("cats", HIDDEN)


@pytest.mark.parametrize("scorer", [DetectionScorer, FuzzingScorer])
def test_the_probe_is_at_chance_where_the_questions_do_not_leak(scorer: type) -> None:
    """The judge is the best there is, were it told what to look for."""

    def fires(tokens: Sequence[str], i: int) -> bool:
        return tokens[i] == " cat"

    rng = np.random.default_rng(0)
    guesses = {HIDDEN: lambda: bool(rng.random() < 0.5)}

    def judge(explanation: str, shown: ShownExample) -> bool:
        if explanation in guesses:
            return guesses[explanation]()
        marked = shown.highlighted or (True,) * len(shown.str_tokens)
        return any(m and fires(shown.str_tokens, i) for i, m in enumerate(marked))

    record = planted_record(fires, n=400)
    explanation = explanation_of(record)
    plain = FunctionJudge(function=judge)
    told = asyncio.run(scorer(judge=plain).score(record, explanation, "e"))
    untold = asyncio.run(scorer(judge=HiddenJudge(of=plain)).score(record, explanation, "e"))
    assert all(t.prediction == t.target for t in told.trials)
    assert_rate(sum(t.prediction == t.target for t in untold.trials), 800, 0.5)
