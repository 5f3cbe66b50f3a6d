"""The simple explainer: what it asks, what it reads in the reply, and what it does not take for an explanation."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.errors import (
    ClientError,
    ConfigError,
    MalformedReplyError,
    RateLimitedError,
    RefusedRequestError,
    ServerError,
    TimeoutExceededError,
    UnreachableError,
)
from sae_auto_interp.explainers import SimpleExplainer
from sae_auto_interp.explainers.simple import MOST_LISTED_TOKENS
from sae_auto_interp.prompting.marked_lines import marked_line
from sae_auto_interp.prompting.prompts import load_prompt
from sae_auto_interp.types import Explanation, Failure, FeatureRecord, Request, Response, Usage
from tests.support.evidence import assert_golden, make_evidence, make_example, planted_record

GOLDEN = Path(__file__).parent / "golden"
RECORD = make_evidence(
    train=[
        make_example(["a", " b", " c", " d"], [0, 1, 2, 0]),
        make_example(["the", " cat", "\n", " sat"], [0, 8, 0.4, 3.99], document=1),
    ],
    test=[make_example([" secret", " TEST"], [0, 5], document=2)],
    explain=[make_example([" silent", " words"], document=3)],
    silent=[make_example([" hidden", " NEGATIVE"], document=4)],
)


def explainer(*answers: str | Response | ClientError, **settings: Any) -> SimpleExplainer:
    return SimpleExplainer(ScriptedClient(answers or ["[EXPLANATION]: cats"]), **settings)


def outcome_of(answer: str | Response | ClientError, **settings: Any) -> Explanation | Failure:
    return asyncio.run(explainer(answer, **settings).explain(RECORD))


def last_message(request: Request) -> str:
    return request.messages[-1].content


def test_the_request_is_word_for_word_this() -> None:
    assert_golden(explainer().request(RECORD), GOLDEN / "simple.txt")


def test_the_request_without_activations_does_not_speak_of_them() -> None:
    request = explainer(show_activations=False).request(RECORD)
    assert_golden(request, GOLDEN / "simple_without_activations.txt")
    assert "Strongest tokens" not in request.canonical_json()


def test_the_same_record_gives_the_same_request_whatever_was_asked_before() -> None:
    record = planted_record(lambda tokens, i: tokens[i] == " cat", n=60)
    explain = explainer(*["[EXPLANATION]: cats"] * 2, n_examples=7)
    first = explain.request(record).canonical_json()
    asyncio.run(explain.explain(RECORD))
    assert explain.request(record).canonical_json() == first
    reordered = make_evidence(record.train[::-1], record.test)
    strengths = [e.max_activation for e in record.train]
    if len(set(strengths)) == len(strengths):
        assert explain.request(reordered).canonical_json() == first


def test_an_example_that_is_left_out_leaves_the_rest_of_the_prompt_as_it_was() -> None:
    train = [make_example([f" w{n}", "."], [n, 0], document=n) for n in range(9, 0, -1)]
    whole, without_last = (last_message(explainer().request(make_evidence(part))) for part in (train, train[:-1]))
    assert "<< w1>>." in whole
    assert whole.startswith(without_last)


def test_only_training_examples_are_shown() -> None:
    record = planted_record(lambda tokens, i: tokens[i] == " cat", n=40)
    marked = [
        replace(example, str_tokens=tuple(f"{token}§{name}" for token in example.str_tokens))
        for name, pool in [
            ("train", record.train), ("test", record.test),
            ("explain", record.non_activating.explain), ("silent", record.non_activating.test),
        ]
        for example in pool
    ]  # fmt: skip
    named = make_evidence(marked[:40], marked[40:80], marked[80:120], marked[120:])
    asked = explainer().request(named).canonical_json()
    assert "§train" in asked
    assert not [name for name in ("test", "explain", "silent") if f"§{name}" in asked]


def test_examples_are_spread_from_the_strongest_to_the_weakest() -> None:
    train = [make_example([f" w{n}", "."], [n, 0], document=n) for n in range(1, 101)]
    shown = last_message(explainer(n_examples=4).request(make_evidence(train)))
    assert [line for line in shown.splitlines() if line.startswith("Excerpt")] == [
        "Excerpt 1: << w100>>.", "Excerpt 2: << w67>>.", "Excerpt 3: << w34>>.", "Excerpt 4: << w1>>.",
    ]  # fmt: skip
    assert "<< w100>>." in last_message(explainer(n_examples=1).request(make_evidence(train)))
    assert last_message(explainer(n_examples=500).request(make_evidence(train))).count("Excerpt") == 100


@pytest.mark.parametrize(("threshold", "text"), [(0.3, "a<< b c>> d"), (0.6, "a b<< c>> d")])
def test_tokens_above_the_threshold_are_marked(threshold: float, text: str) -> None:
    record = make_evidence(RECORD.train[:1])
    assert last_message(explainer(threshold=threshold).request(record)).startswith(f"Excerpt 1: {text}\n")


def test_activations_are_relative_to_the_strongest_of_all_and_never_0() -> None:
    train = [make_example(["x", "y", "z"], [100, 0, 50]), make_example(["u", "v"], [0.2, 0.1], document=1)]
    lines = last_message(explainer().request(make_evidence(train))).splitlines()
    assert [line for line in lines if line.startswith("Strongest")] == [
        'Strongest tokens: ("x", 10), ("z", 5)',
        'Strongest tokens: ("u", 1), ("v", 1)',
    ]


def test_listed_tokens_are_the_strongest_ones_quoted() -> None:
    strengths = [50.0 - n for n in range(30)]
    tokens = ['say "', *(f"t{n}" for n in range(1, 30))]
    (line,) = last_message(explainer().request(make_evidence([make_example(tokens, strengths)]))).splitlines()[1:]
    pairs = json.loads("[" + line.removeprefix("Strongest tokens: ").replace("(", "[").replace(")", "]") + "]")
    assert [token for token, _ in pairs] == tokens[:MOST_LISTED_TOKENS]


def test_delimiters_are_chosen_that_the_texts_do_not_hold() -> None:
    train = [make_example(["x <<", " y"], [0, 2]), make_example(["p", " q"], [0, 1], document=1)]
    request = explainer().request(make_evidence(train))
    assert "Excerpt 1: x <<[[ y]]" in last_message(request)
    assert "Excerpt 2: p[[ q]]" in last_message(request)
    assert "between [[ and ]]" in request.messages[0].content
    assert "left a [[tip]]" in request.messages[1].content
    assert "<<" not in request.messages[0].content + request.messages[1].content


class Tokenizer:
    def decode(self, ids: list[int]) -> str:
        return "".join(f" t{i}" for i in ids)


def test_examples_without_strings_are_decoded_token_by_token() -> None:
    bare = make_evidence([replace(example, str_tokens=()) for example in RECORD.train])
    shown = last_message(explainer(tokenizer=Tokenizer()).request(bare))
    assert "Excerpt 2: t0<< t1 t2>> t3" not in shown
    assert "Excerpt 1:  t0<< t1>> t2<< t3>>" in shown
    assert "Excerpt 2:  t0<< t1 t2>> t3" in shown or "Excerpt 2:  t0 t1 t2 t3" in shown


def test_strings_of_the_record_come_before_the_tokenizer() -> None:
    assert explainer(tokenizer=Tokenizer()).request(RECORD) == explainer().request(RECORD)


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("x [EXPLANATION]: foo \n", "foo"),
        ("[EXPLANATION]: words, e.g. [a]: b", "words, e.g. [a]: b"),
        ("[EXPLANATION]:\n  on the next line", "on the next line"),
        ("First: [EXPLANATION]: draft\nBetter: [EXPLANATION]: final", "final"),
        ("[EXPLANATION]: two\nlines", "two"),
        ("[EXPLANATION]:", None),
        ("[EXPLANATION]:  \n ", None),
        ("[EXPLANATION]: draft\n[EXPLANATION]:", None),
        ("the feature fires on cats", None),
        ("EXPLANATION: cats", "cats"),
        ("", None),
    ],
)
def test_the_explanation_is_what_follows_its_mark(reply: str, text: str | None) -> None:
    found = marked_line(reply)
    assert (None if found is None else found.text) == text


def test_an_explanation_says_where_it_comes_from() -> None:
    response = Response("So: [EXPLANATION]: cats\n", Usage(11, 7, 1), "stop", "m")
    explained = outcome_of(response)
    assert isinstance(explained, Explanation)
    assert (explained.feature, explained.text, explained.explainer) == (RECORD.feature, "cats", "simple")
    assert explained.usage == Usage(11, 7, 1)
    assert explained.prompt_id.startswith("explainers/simple@")
    assert explained.prompt_id != load_prompt("explainers", "simple").id, "the worked example is part of the prompt"


def test_a_reply_without_an_explanation_is_a_failure_that_keeps_the_reply() -> None:
    failure = outcome_of("Maybe cats.")
    assert failure == Failure("explain", "unparsable", "the reply has no line '[EXPLANATION]: ...'", "Maybe cats.")
    refused = outcome_of("I do not know.")
    assert isinstance(refused, Failure)
    assert (refused.kind, refused.raw) == ("refusal", "I do not know.")


@pytest.mark.parametrize("text", ["your sentence", "Say in one short sentence what the feature fires on"])
def test_an_echo_of_the_prompt_is_no_explanation(text: str) -> None:
    failure = outcome_of(f"[EXPLANATION]: {text}")
    assert isinstance(failure, Failure)
    assert failure.kind in ("placeholder", "echo")


def test_a_reply_that_was_cut_off_says_so() -> None:
    failure = outcome_of(Response("Let me think about", Usage(), "length", "m"), max_tokens=123)
    assert isinstance(failure, Failure)
    assert failure.kind == "cut_off"
    assert "cut off, before or within its line '[EXPLANATION]: ...', at max_tokens=123: raise it" in failure.message


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RateLimitedError("slow down", 3.0), "rate_limited"),
        (ServerError("500"), "server_error"),
        (TimeoutExceededError("60 s"), "timeout"),
        (UnreachableError("refused"), "unreachable"),
        (RefusedRequestError("404"), "refused_request"),
        (MalformedReplyError("no choices"), "malformed_reply"),
    ],
)
def test_trouble_with_the_server_is_a_failure_of_its_kind(error: ClientError, kind: str) -> None:
    assert outcome_of(error) == Failure("explain", kind, str(error))


def test_a_mistake_in_the_program_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(SimpleExplainer(ScriptedClient(lambda request: str(1 // 0))).explain(RECORD))


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (make_evidence(), "no_examples"),
        (make_evidence([replace(RECORD.train[0], str_tokens=())]), "no_text"),
    ],
)
def test_nothing_is_asked_about_a_record_with_nothing_to_show(record: FeatureRecord, kind: str) -> None:
    client = ScriptedClient(["[EXPLANATION]: cats"])
    failure = asyncio.run(SimpleExplainer(client).explain(record))
    assert isinstance(failure, Failure)
    assert (failure.stage, failure.kind) == ("explain", kind)
    assert client.requests == []


def test_settings_reach_the_request() -> None:
    request = explainer(temperature=0.7, max_tokens=99).request(RECORD)
    assert (request.sampling.temperature, request.sampling.max_tokens, request.sampling.seed) == (0.7, 99, None)
    assert explainer(structured=False).request(RECORD).schema is None


@pytest.mark.parametrize("settings", [{"threshold": 1.0}, {"threshold": -0.1}, {"n_examples": 0}, {"max_tokens": 0}])
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        explainer(**settings)
