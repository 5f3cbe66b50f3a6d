"""Sensitivity: the share of new texts that fire; copies of what was shown do not count, and no explanation is read."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.errors import ConfigError
from sae_auto_interp.metrics import balanced_accuracy, tpr
from sae_auto_interp.scorers import SensitivityScorer
from sae_auto_interp.types import FeatureRecord, Score
from tests.scorers.test_generation import CATS, DOGS, WordActivations
from tests.support.evidence import assert_golden, explanation_of, make_evidence, make_example, planted_record

GOLDEN = Path(__file__).parent / "golden" / "sensitivity.txt"
RECORD = planted_record(lambda tokens, i: tokens[i] == " cat", n=30)


def score_of(texts: Sequence[str], record: FeatureRecord = RECORD, text: str = "cats", **settings: Any) -> Score:
    client = ScriptedClient(lambda request: json.dumps({"texts": list(texts)}))
    scorer = SensitivityScorer(client=client, reader=WordActivations(), **settings)
    return asyncio.run(scorer.score(record, explanation_of(record, text), "e1"))


@pytest.mark.parametrize("n_fired", [0, 7, 10])
def test_the_share_is_exact(n_fired: int) -> None:
    score = score_of(CATS[:n_fired] + DOGS[n_fired:])
    assert (tpr(score).value, tpr(score).n, score.usage.n_requests) == (n_fired / 10, 10, 1)
    assert balanced_accuracy(score).value is None
    assert score == score_of(CATS[:n_fired] + DOGS[n_fired:], text="anything else")


def test_the_strongest_and_some_of_the_others_are_shown_and_no_test_example() -> None:
    scorer = SensitivityScorer(client=ScriptedClient([]), reader=WordActivations())
    strengths = sorted((e.max_activation for e in RECORD.train), reverse=True)
    shown = scorer.examples(RECORD)
    assert [e.max_activation for e in shown[:10]] == strengths[:10]
    assert [e.max_activation for e in shown[10:]] == [strengths[10 + i] for i in (0, 5, 10, 14, 19)]
    assert all(any(e is train for train in RECORD.train) for e in shown)


def test_copies_of_what_was_shown_are_failures() -> None:
    example = RECORD.train[0]
    near = "".join(example.str_tokens[:-2]) + " and then another end"
    part = "".join(example.str_tokens[:5])
    trials = score_of([f"Once: {example.text}!", near, f"{part} and a dog or two", *CATS[3:]], n_strongest=30).trials
    assert [t.failure.kind if t.failure else None for t in trials] == ["copied_text", "copied_text", *[None] * 8]


def test_without_examples_nothing_is_asked() -> None:
    score = score_of(CATS, make_evidence(test=RECORD.test))
    assert {t.failure.kind for t in score.trials if t.failure} == {"no_examples"}
    assert (len(score.trials), score.usage.n_requests) == (10, 0)


def test_the_request_is_word_for_word_this() -> None:
    examples = [make_example(["the", " <<", " cat", " sat"], [0, 0, 8, 3]), make_example([" a", " cat"], [0, 4])]
    scorer = SensitivityScorer(client=ScriptedClient([]), reader=WordActivations())
    assert_golden(scorer.request(examples), GOLDEN)


@pytest.mark.parametrize("settings", [{"n_texts": 0}, {"n_strongest": 0}, {"n_others": -1}, {"marked_fraction": 1.0}])
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        SensitivityScorer(client=ScriptedClient([]), reader=WordActivations(), **settings)
