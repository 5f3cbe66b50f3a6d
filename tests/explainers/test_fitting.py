"""Prompts that do not fit the model's context: fewer examples are shown, as many as fit, and that is recorded."""

import asyncio
import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.errors import ClientError, PromptTooLongError
from sae_auto_interp.explainers import (
    BestOfNExplainer,
    ContrastiveExplainer,
    MaxActivationExplainer,
    MaxActivationLogitsExplainer,
    RevisionExplainer,
    SaebenchExplainer,
    SimpleExplainer,
    SingleTokenExplainer,
    TokenActivationPairsExplainer,
)
from sae_auto_interp.explainers._fitting import numbers_of_examples
from sae_auto_interp.results.codec import decode_explanation, encode_explanation
from sae_auto_interp.types import Explanation, Failure, FeatureRecord, Request, Response, TokenLogits, Usage
from tests.explainers.test_choosing import WordJudge, record_with_dev
from tests.support.evidence import make_example, planted_record

REPLY = "This neuron activates on cats\n[EXPLANATION]: cats"
EXPLAINERS: dict[str, Callable[..., Any]] = {
    "simple": SimpleExplainer,
    "contrastive": ContrastiveExplainer,
    "max_activation": MaxActivationExplainer,
    "max_activation_logits": MaxActivationLogitsExplainer,
    "saebench": SaebenchExplainer,
    "single_token": SingleTokenExplainer,
    "token_activation_pairs": TokenActivationPairsExplainer,
}


def record() -> FeatureRecord:
    found = planted_record(lambda tokens, i: tokens[i].startswith(" p"), n=30, vocabulary=vocabulary())
    silent = tuple(make_example([" silent", f" w{i}"], document=900_000 + i) for i in range(8))
    return replace(
        found,
        logits=TokenLogits(((" meow", 2.5),), ((" bark", -1.0),)),
        non_activating=replace(found.non_activating, explain=silent),
    )


def vocabulary() -> tuple[str, ...]:
    return (*(f" p{i}" for i in range(9)), *(f" other{i}" for i in range(20)))


def n_words(request: Request) -> int:
    return sum(len(message.content.split()) for message in request.messages)


def holding(
    limit: int, *, says: bool = True, asked: list[Request] | None = None
) -> Callable[[Request], str | ClientError]:
    """A server with a context of so many words, which says so or not."""

    def script(request: Request) -> str | ClientError:
        if asked is not None:
            asked.append(request)
        n = n_words(request)
        return REPLY if n <= limit else PromptTooLongError("too long", context_tokens=limit if says else None)

    return script


def explain(name: str, script: Callable[[Request], Any], feature: FeatureRecord | None = None) -> Any:
    return asyncio.run(EXPLAINERS[name](client=ScriptedClient(script)).explain(feature or record()))


def sizes(name: str) -> tuple[int, int]:
    """Words of the whole prompt, and of one with a single example."""
    asked: list[Request] = []
    explain(name, holding(0, says=False, asked=asked))
    return n_words(asked[0]), n_words(asked[-1])


@pytest.mark.parametrize("name", EXPLAINERS)
def test_as_many_examples_are_shown_as_fit(name: str) -> None:
    most, least = sizes(name)
    assert least < most
    asked: list[Request] = []
    found = explain(name, holding((most + least) // 2, says=False, asked=asked))
    assert isinstance(found, Explanation)
    assert found.n_shown is not None
    assert [n_words(request) for request in asked] == sorted((n_words(r) for r in asked), reverse=True)
    assert n_words(asked[-1]) <= (most + least) // 2 < n_words(asked[-2])
    assert decode_explanation(encode_explanation(found)) == found


@pytest.mark.parametrize("name", EXPLAINERS)
def test_where_there_is_room_nothing_is_left_out_or_recorded(name: str) -> None:
    asked: list[Request] = []
    found = explain(name, holding(10**9, asked=asked))
    assert isinstance(found, Explanation)
    assert found.n_shown is None
    assert asked == [EXPLAINERS[name](client=ScriptedClient([])).request(record())]
    assert b"n_shown" not in encode_explanation(found), "stored as before"


@pytest.mark.parametrize("name", EXPLAINERS)
def test_a_prompt_that_never_fits_is_a_failure_that_names_the_settings(name: str) -> None:
    asked: list[Request] = []
    found = explain(name, holding(20, says=False, asked=asked))
    assert isinstance(found, Failure)
    assert found.kind == "prompt_too_long"
    assert f"explainers.{name}.n_" in found.message
    assert "features.window" in found.message
    assert "\n" not in found.message
    assert len(asked) == len({request.canonical_json() for request in asked}), "no prompt is sent twice"


def test_a_context_that_is_named_spares_questions_and_gives_the_same_every_time() -> None:
    told: list[Request] = []
    first = explain("simple", holding(500, asked=told))
    assert isinstance(first, Explanation)
    assert len(told) <= 3
    assert explain("simple", holding(500)) == first


def test_an_answer_that_the_context_cut_off_is_asked_for_with_fewer_examples() -> None:
    def script(request: Request) -> Response:
        n = n_words(request)
        if n > 500:
            return Response("[EXPLANATION]: cats and", Usage(n, 3, 1), "length", "m")
        return Response(REPLY, Usage(n, 9, 1), "stop", "m")

    found = explain("simple", script)
    assert isinstance(found, Explanation)
    assert found.n_shown is not None
    assert found.usage.n_requests > 1, "what was paid for is counted"


def test_other_trouble_is_not_tried_again() -> None:
    found = explain("simple", lambda request: Response("[EXPLANATION]: cats and", Usage(9, 500, 1), "length", "m"))
    assert isinstance(found, Failure)
    assert found.kind == "cut_off"


@pytest.mark.parametrize("explainer", [BestOfNExplainer, RevisionExplainer])
def test_explainers_that_choose_show_fewer_examples_too(explainer: Callable[..., Any]) -> None:
    def script(request: Request) -> str | ClientError:
        return "[EXPLANATION]: cat" if n_words(request) <= 600 else PromptTooLongError("too long", context_tokens=600)

    found = asyncio.run(explainer(client=ScriptedClient(script), judge=WordJudge()).explain(record_with_dev()))
    assert isinstance(found, Explanation)
    assert found.n_shown is not None


def test_what_is_tried_ends_at_one_and_falls_by_a_quarter() -> None:
    assert list(numbers_of_examples(15)) == [15, 11, 8, 6, 4, 3, 2, 1]
    assert list(numbers_of_examples(1)) == [1]
    for n in range(1, 200):
        tried = list(numbers_of_examples(n))
        assert tried[0] == n
        assert tried[-1] == 1
        assert all(a > b for a, b in itertools.pairwise(tried))
    assert re.search("too long", str(PromptTooLongError("too long")))
