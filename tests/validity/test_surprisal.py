"""Surprisal in the planted world: a reader that understands ranks perfectly, any other one by chance."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from sae_auto_interp.errors import RefusedRequestError
from sae_auto_interp.metrics import auroc, balanced_accuracy, confusion
from sae_auto_interp.planted import rule_of
from sae_auto_interp.scorers import SurprisalScorer
from sae_auto_interp.scorers.surprisal import BASELINE
from sae_auto_interp.types import FeatureRecord, PromptLogprobs, PromptRequest, Score, TokenLogprob, Usage
from tests.support.prompt_readers import PlacedReader
from tests.validity.chance import erring_interval, ignorant_interval, ranking_interval
from tests.validity.pooled import hidden, pooled
from tests.validity.simulated import first_adjective, guess

Records = list[FeatureRecord]
Gain = Callable[[str, tuple[str, ...]], float]
"""(description, words of a text) -> how much less surprising the text is after it."""


@dataclass(frozen=True)
class PlantedReader:
    """A base model that finds the first word of a text less surprising by a gain, after a description that says
    something."""

    gain: Gain
    model: str = "planted-base"
    requests: list[PromptRequest] = field(default_factory=list)

    async def read(self, request: PromptRequest) -> PromptLogprobs:
        self.requests.append(request)
        before, _, text = request.text.rpartition("Text:\n")
        description = before.rpartition("Description: ")[2].strip()
        pieces = re.findall(r"\s*(?:[A-Za-z]+|\.)", text)
        gain = 0.0 if description == BASELINE else self.gain(description, tuple(p.strip() for p in pieces))
        told = [TokenLogprob(piece, -3.0 + gain * (i == 0)) for i, piece in enumerate(pieces)]
        head = TokenLogprob(request.text[: len(request.text) - len(text)], math.nan)
        return PromptLogprobs((head, *told), Usage(len(pieces), 0, 1), self.model)

    async def close(self) -> None: ...


def understanding(description: str, words: Sequence[str]) -> float:
    rule = rule_of(description)
    return 2.0 * (rule is not None and any(rule.places(words)))


def by_position(description: str, words: Sequence[str]) -> float:
    """The earlier the first adjective, the better."""
    return 3.5 - first_adjective(words)


def by_length(description: str, words: Sequence[str]) -> float:
    return len("".join(words)) - 64


def guessing(description: str, words: Sequence[str]) -> float:
    return guess(description, *words) - 0.5


def erring(miss_rate: float, false_alarm_rate: float) -> Gain:
    def gain(description: str, words: tuple[str, ...]) -> float:
        fits = understanding(description, words) > 0
        errs = guess("error", description, *words) < (miss_rate if fits else false_alarm_rate)
        return 2.0 if fits != errs else -2.0

    return gain


def score_of(gain: Gain, records: Records) -> Score:
    return pooled(SurprisalScorer(reader=PlantedReader(gain)), records)


@pytest.mark.validity("oracle", scorer="surprisal")
def test_a_reader_that_understands_ranks_perfectly(records: Records) -> None:
    found = score_of(understanding, records)
    assert (auroc(found).value, balanced_accuracy(found).value) == (1.0, 1.0)


@pytest.mark.validity("constant", scorer="surprisal")
@pytest.mark.parametrize("gain", [0.0, 3.0, -3.0])
def test_the_same_gain_everywhere_is_exactly_chance(gain: float, records: Records) -> None:
    found = score_of(lambda *_: gain, records)
    assert (auroc(found).value, balanced_accuracy(found).value) == (0.5, 0.5)


@pytest.mark.validity("hidden", scorer="surprisal")
def test_a_reader_that_is_told_nothing_is_exactly_at_chance(records: Records) -> None:
    found = pooled(SurprisalScorer(reader=PlantedReader(understanding)), records, hidden)
    assert (auroc(found).value, balanced_accuracy(found).value) == (0.5, 0.5)


@pytest.mark.validity(scorer="surprisal")
@pytest.mark.parametrize("mind", [guessing, by_position, by_length])
def test_a_reader_that_does_not_understand_is_at_chance(mind: Gain, records: Records) -> None:
    found = score_of(mind, records)
    area, right = auroc(found).value, balanced_accuracy(found).value
    assert area is not None
    assert right is not None
    low, high = ranking_interval(found)
    assert low <= area <= high
    low, high = ignorant_interval(confusion(found))
    assert low <= right <= high


@pytest.mark.validity("counting_marks", scorer="surprisal")
def test_no_marks_are_read(records: Records) -> None:
    reader = PlantedReader(understanding)
    pooled(SurprisalScorer(reader=reader), records)
    assert len(reader.requests) > 1000
    assert not any("<<" in request.text for request in reader.requests)


@pytest.mark.validity("erring", scorer="surprisal")
@pytest.mark.parametrize(("miss_rate", "false_alarm_rate"), [(0.1, 0.3), (0.4, 0.0)])
def test_errors_cost_what_they_should(miss_rate: float, false_alarm_rate: float, records: Records) -> None:
    found = score_of(erring(miss_rate, false_alarm_rate), records)
    counts, right = confusion(found), balanced_accuracy(found).value
    low, high = erring_interval(counts.n_positive, counts.n_negative, miss_rate, false_alarm_rate)
    assert right is not None
    assert low <= right <= high
    assert auroc(found).value == pytest.approx(right)  # two gains only


@pytest.mark.validity("breaking", scorer="surprisal")
def test_a_reader_that_does_not_answer_scores_nothing(records: Records) -> None:
    refuses = PlacedReader(lambda _: RefusedRequestError("no prompt log-probabilities here"))
    score = pooled(SurprisalScorer(reader=refuses), records[:2])
    found = auroc(score)
    assert (found.value, found.n, found.n_failed) == (None, 0, len(score.trials))
    assert found.reason
