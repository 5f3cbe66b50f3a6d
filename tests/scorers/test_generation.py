"""Generation: exact shares of texts that fire, each lacking text a failure, and nothing of the record shown."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sae_auto_interp.clients import LimitedClient, ScriptedClient
from sae_auto_interp.errors import ConfigError, ServerError
from sae_auto_interp.metrics import balanced_accuracy, tnr, tpr
from sae_auto_interp.scorers import GenerationScorer
from sae_auto_interp.scorers._writing import parse_texts
from sae_auto_interp.types import NO_DOCUMENT, FeatureId, Request, Response, Score, TextActivations, Usage
from tests.support.evidence import assert_golden, explanation_of, planted_record
from tests.support.prompt_readers import WORDS

GOLDEN = Path(__file__).parent / "golden"
RECORD = planted_record(lambda tokens, i: tokens[i] == " cat", n=5)
LARGEST = RECORD.stats.max_activation


@dataclass(frozen=True)
class WordActivations:
    """A subject model in which the feature fires on words; remembers what it read."""

    strength: Callable[[str], float] = lambda word: LARGEST if word == "cat" else 0.0
    calls: list[tuple[tuple[str, ...], FeatureId]] = field(default_factory=list)

    async def activations(self, texts: Sequence[str], feature: FeatureId) -> list[TextActivations]:
        self.calls.append((tuple(texts), feature))
        await asyncio.sleep(0)
        words = [tuple(WORDS.findall(text)) for text in texts]
        return [TextActivations(own, np.array([self.strength(w) for w in own], np.float32)) for own in words]


def is_boundary(request: Request) -> bool:
    return "near misses" in request.messages[0].content


def writer(texts: Sequence[Any], misses: Sequence[Any] = ()) -> ScriptedClient:
    return ScriptedClient(lambda request: json.dumps({"texts": list(misses if is_boundary(request) else texts)}))


def score_of(client: Any, reader: Any = None, **settings: Any) -> Score:
    scorer = GenerationScorer(client=client, reader=reader or WordActivations(), **settings)
    return asyncio.run(scorer.score(RECORD, explanation_of(RECORD, "cats"), "e1"))


CATS = [f"a cat number {i}" for i in range(10)]
DOGS = [f"a dog number {i}" for i in range(10)]


@pytest.mark.parametrize(("n_fired", "n_wrong"), [(10, 0), (7, 0), (0, 3), (5, 10)])
def test_shares_are_exact(n_fired: int, n_wrong: int) -> None:
    score = score_of(writer(CATS[:n_fired] + DOGS[n_fired:], CATS[:n_wrong] + DOGS[n_wrong:]))
    assert (score.kind, len(score.trials), score.usage.n_requests) == ("classification", 20, 2)
    assert tpr(score).value == n_fired / 10
    assert tnr(score).value == 1 - n_wrong / 10
    assert balanced_accuracy(score).value == pytest.approx((n_fired / 10 + 1 - n_wrong / 10) / 2)
    assert {(t.source, t.document, t.quantile) for t in score.trials} == {("generated", NO_DOCUMENT, None)}


def test_a_right_explanation_scores_1_and_one_that_is_the_same_for_all_texts_one_half() -> None:
    assert balanced_accuracy(score_of(writer(CATS, DOGS))).value == 1.0
    assert balanced_accuracy(score_of(writer(CATS, CATS))).value == 0.5
    assert balanced_accuracy(score_of(writer(DOGS, DOGS))).value == 0.5


def test_without_near_misses_balanced_accuracy_is_undefined_and_says_why() -> None:
    score = score_of(writer(CATS), n_boundary=0)
    assert (tpr(score).value, score.usage.n_requests) == (1.0, 1)
    found = balanced_accuracy(score)
    assert found.value is None
    assert found.reason is not None
    assert "negative" in found.reason


@pytest.mark.parametrize(("threshold", "fires"), [(0.0, True), (0.4, True), (0.5, False), (0.9, False)])
def test_the_threshold_is_a_share_of_the_features_largest_activation(threshold: float, fires: bool) -> None:
    reader = WordActivations(lambda word: LARGEST / 2 if word == "cat" else 0.0)
    score = score_of(writer(CATS, DOGS), reader, threshold=threshold)
    assert {t.prediction for t in score.trials if t.target} == {fires}
    assert {t.confidence for t in score.trials if t.target} == {0.5}
    assert {(t.prediction, t.confidence) for t in score.trials if not t.target} == {(False, 0.0)}


def test_all_texts_are_read_at_once_and_nothing_of_the_record_is_shown() -> None:
    client, reader = writer(CATS, DOGS), WordActivations()
    score_of(client, reader)
    assert reader.calls == [((*CATS, *DOGS), RECORD.feature)]
    shown = "".join(request.canonical_json() for request in client.requests)
    for example in (*RECORD.train, *RECORD.test, *RECORD.non_activating.explain, *RECORD.non_activating.test):
        assert json.dumps(example.text)[1:-1] not in shown


# ------------------------------------------------------------------ what is lacking is counted


def kinds(score: Score, target: bool = True) -> list[str | None]:
    return [t.failure.kind if t.failure else None for t in score.trials if t.target is target]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (CATS[:7], [None] * 7 + ["missing_text"] * 3),
        ([*CATS, "and one more cat"], [None] * 10),
        ([CATS[0], CATS[0].upper() + " ", *CATS[2:]], [None, "duplicate_text", *[None] * 8]),
        (["", *CATS[1:9], " \n"], ["empty_text", *[None] * 8, "empty_text"]),
        ([], ["missing_text"] * 10),
        ([*CATS[:9], 3], ["unparsable"] * 10),
    ],
)
def test_each_text_that_is_lacking_is_a_failure(texts: list[Any], expected: list[str | None]) -> None:
    score = score_of(writer(texts, DOGS))
    assert kinds(score) == expected
    assert kinds(score, target=False) == [None] * 10
    assert tpr(score).n_failed == sum(kind is not None for kind in expected)
    assert all(t.prediction is None and t.confidence is None for t in score.trials if t.failure)


@pytest.mark.parametrize("reply", ["", "no", '{"texts": "a cat"}', '{"texts": ["a', "[[1]]", "[" * 100_000])
def test_a_reply_without_texts_fails_all_of_them(reply: str) -> None:
    reader = WordActivations()
    score = score_of(ScriptedClient(lambda request: reply), reader)
    assert kinds(score) == kinds(score, target=False) == ["unparsable"] * 10
    assert reader.calls == []


def test_a_reply_that_was_cut_off_says_so() -> None:
    cut = Response('{"texts": ["a', Usage(9, 9, 1), "length", "m")
    score = score_of(ScriptedClient(lambda request: cut))
    assert score.trials[0].failure is not None
    assert "cut off" in score.trials[0].failure.message


def test_a_server_that_is_away_fails_its_own_texts_only() -> None:
    def answer(request: Request) -> Any:
        return ServerError("503") if is_boundary(request) else json.dumps({"texts": CATS})

    score = score_of(ScriptedClient(answer))
    assert kinds(score) == [None] * 10
    assert kinds(score, target=False) == ["server_error"] * 10
    assert score.usage.n_requests == 2


@pytest.mark.parametrize(
    "reply", ['["a", "b"]', 'Here: {"texts": ["a", "b"]}', '```json\n{"texts": ["a",\n"b"]}\n```', '{"x": ["a", "b"]}']
)
def test_prose_around_the_list_is_forgiven(reply: str) -> None:
    assert parse_texts(Response(reply, Usage(), "stop", "m"), 2) == ["a", "b"]


def test_concurrency_changes_nothing() -> None:
    def client(n: int) -> LimitedClient:
        def answer(request: Request) -> str:
            return json.dumps({"texts": DOGS if is_boundary(request) else CATS})

        return LimitedClient(ScriptedClient(answer, latency_seconds=0.001), max_concurrency=n)

    assert score_of(client(1)) == score_of(client(10))


def test_the_requests_are_word_for_word_these() -> None:
    scorer = GenerationScorer(client=ScriptedClient([]), reader=WordActivations())
    for prompt in scorer.prompt_names:
        assert_golden(scorer.request("cats", prompt, 10), GOLDEN / f"{prompt}.txt")


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"n_texts": 0}, "n_texts=0"), ({"n_boundary": -1}, "n_boundary=-1"), ({"threshold": 1.0}, "threshold=1.0")],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GenerationScorer(client=ScriptedClient([]), reader=WordActivations(), **settings)
