"""Simulation in the planted world, in its three ways of asking: who knows is right, who knows nothing is at 0.

The simulators know a feature's places and not its strengths, which are random. Where all strengths are alike, the
places are everything, and the oracle's correlation is 1.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.metrics import simulation_metrics
from sae_auto_interp.planted import rule_of
from sae_auto_interp.scorers import AllAtOnceSimulationScorer, SimulationScorer, TokenByTokenSimulationScorer
from sae_auto_interp.types import Array, Estimate, Example, FeatureRecord, Request, Response, Score, TokenLogprob, Usage
from tests.support.prompt_readers import PlacedReader
from tests.support.simulators import AnyScorer, listing, reading, spread
from tests.validity.chance import erring_correlation, erring_correlation_interval, unrelated_interval
from tests.validity.pooled import hidden, of_another, pooled
from tests.validity.simulated import WORD

Records = list[FeatureRecord]
Level = Callable[[str, Sequence[str], int], float]
"""(description, the window up to the token at least, the token's place) -> its level."""
N_WINDOWS = 8
HALF = 8
"""Windows are two sentences of eight tokens."""


def by_listing(level: Level) -> SimulationScorer:
    def answer(request: Request) -> str:
        description = request.messages[-1].content.removeprefix("Description: ").partition("\n\n")[0]
        return listing(lambda tokens, i: level(description, tokens, i))(request)

    return SimulationScorer(client=ScriptedClient(answer), n_windows=N_WINDOWS)


def all_at_once(level: Level) -> AllAtOnceSimulationScorer:
    def placed(text: str) -> Mapping[int, Mapping[str, float]]:
        description = text.rpartition("Description: ")[2].partition("\n")[0]
        return reading(lambda tokens, i: level(description, tokens, i))(text)

    return AllAtOnceSimulationScorer(reader=PlacedReader(placed), n_windows=N_WINDOWS)


def token_by_token(level: Level) -> TokenByTokenSimulationScorer:
    def answer(request: Request) -> Response:
        described, _, shown = request.messages[-1].content.partition("\n\nText: ")
        tokens = WORD.findall(json.loads(shown.partition("\nLast token: ")[0]))
        probabilities = spread(level(described.removeprefix("Description: "), tokens, len(tokens) - 1))
        alternatives = {text: math.log(p) for text, p in probabilities.items()}
        return Response("0", Usage(50, 1, 1), "length", "m", (TokenLogprob("0", -1.0, alternatives),))

    return TokenByTokenSimulationScorer(client=ScriptedClient(answer), n_windows=N_WINDOWS)


SCORERS: dict[str, Callable[[Level], AnyScorer]] = {
    "simulation": by_listing,
    "simulation_all_at_once": all_at_once,
    "simulation_token_by_token": token_by_token,
}


def oracle() -> Level:
    """Knows every planted rule, and guesses where it is told none."""
    guess = guessing()

    def level(description: str, tokens: Sequence[str], i: int) -> float:
        rule = rule_of(description)
        return guess(description, tokens, i) if rule is None else 6.0 * rule.places(tokens)[i]

    return level


def guessing() -> Level:
    rng = np.random.default_rng(1)
    return lambda *_: float(rng.integers(10))


def by_position() -> Level:
    """The first half of what is shown, as the judges do where nothing is marked."""
    return lambda _, tokens, i: 8.0 * (i < HALF)


def by_length() -> Level:
    """The shorter the sentence before, the higher."""
    return lambda _, tokens, i: 5.0 if i < HALF else float(np.clip(38 - len("".join(tokens[:HALF])), 0, 9))


def erring(miss_rate: float, false_alarm_rate: float) -> Level:
    rng, knows = np.random.default_rng(1), oracle()

    def level(description: str, tokens: Sequence[str], i: int) -> float:
        fires = knows(description, tokens, i) > 0
        return 6.0 * (fires != (rng.random() < (miss_rate if fires else false_alarm_rate)))

    return level


def flat(records: Records) -> Records:
    """The same features, always equally strong."""

    def strong(examples: Sequence[Example]) -> tuple[Example, ...]:
        return tuple(replace(e, activations=np.where(e.activations > 0, 5, 0).astype(np.float32)) for e in examples)

    return [replace(record, train=strong(record.train), test=strong(record.test)) for record in records]


def with_one_unit(records: Records) -> Records:
    """The same features with their strengths; what a level stands for is the same of all."""
    return [replace(record, train=same.train) for record, same in zip(records, flat(records), strict=True)]


def correlation(score: Score) -> Estimate:
    return simulation_metrics(score, np.random.default_rng(0), n_resamples=20).ev_correlation


def true(score: Score) -> Array:
    return np.concatenate([trial.true for trial in score.simulations])


def assert_unrelated(score: Score) -> None:
    found, (low, high) = correlation(score), unrelated_interval(score)
    assert found.value is not None
    assert found.n_failed == 0
    assert low < 0 < high
    assert low <= found.value <= high


@pytest.mark.validity("oracle")
@pytest.mark.parametrize("name", SCORERS)
def test_who_knows_the_places_is_right_about_all_but_the_strengths(name: str, records: Records) -> None:
    assert correlation(pooled(SCORERS[name](oracle()), flat(records))).value == pytest.approx(1.0)
    found = pooled(SCORERS[name](oracle()), with_one_unit(records))
    expected = np.corrcoef(true(found), true(found) > 0)[0, 1]
    assert 0.85 < expected < 1
    assert correlation(found).value == pytest.approx(expected)


@pytest.mark.validity("constant")
@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("level", [0.0, 7.0])
def test_the_same_level_everywhere_has_no_correlation(name: str, level: float, records: Records) -> None:
    found = correlation(pooled(SCORERS[name](lambda *_: level), with_one_unit(records)))
    assert found.value is None
    assert found.reason == "the true activations or the predicted ones are all equal"


@pytest.mark.validity
@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("mind", [guessing, by_position, by_length])
def test_who_knows_nothing_has_no_correlation_but_by_chance(
    name: str, mind: Callable[[], Level], records: Records
) -> None:
    assert_unrelated(pooled(SCORERS[name](mind()), records))


@pytest.mark.validity("counting_marks")
@pytest.mark.parametrize("name", SCORERS)
def test_no_marks_are_shown_that_could_be_counted(name: str, records: Records) -> None:
    scorer = SCORERS[name](oracle())
    pooled(scorer, records)
    asked = scorer.reader if isinstance(scorer, AllAtOnceSimulationScorer) else scorer.client
    assert isinstance(asked, ScriptedClient | PlacedReader)
    shown = [repr(request) for request in asked.requests]
    assert len(shown) >= 12 * N_WINDOWS
    assert not any("<<" in text for text in shown)


@pytest.mark.validity("hidden")
@pytest.mark.parametrize("name", SCORERS)
def test_who_is_not_told_the_explanation_has_no_correlation_but_by_chance(name: str, records: Records) -> None:
    assert_unrelated(pooled(SCORERS[name](oracle()), records, hidden))


@pytest.mark.parametrize("name", SCORERS)
def test_another_features_explanation_has_no_correlation_to_speak_of(name: str, records: Records) -> None:
    """Below 0 rather than at it: where the other feature fires, this one is silent."""
    found = correlation(pooled(SCORERS[name](oracle()), records[:8], of_another)).value
    assert found is not None
    assert -0.1 < found < 0.03


@pytest.mark.parametrize("name", SCORERS)
def test_who_knows_where_words_of_a_kind_stand_needs_no_explanation_for_a_little(name: str, records: Records) -> None:
    """What no design can hide: long words are those that can be of a class at all, and features fire on these."""
    found = correlation(pooled(SCORERS[name](lambda _, tokens, i: 5.0 * (len(tokens[i].strip()) > 3)), records)).value
    assert found is not None
    assert 0.1 < found < 0.2


@pytest.mark.validity("erring")
@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize(("miss_rate", "false_alarm_rate"), [(0.1, 0.3), (0.4, 0.0)])
def test_errors_cost_what_they_should(name: str, miss_rate: float, false_alarm_rate: float, records: Records) -> None:
    score = pooled(SCORERS[name](erring(miss_rate, false_alarm_rate)), flat(records))
    found, fires = correlation(score).value, (true(score) > 0).astype(np.float64)
    low, high = erring_correlation_interval(fires, miss_rate, false_alarm_rate)
    assert found is not None
    assert low <= erring_correlation(fires, miss_rate, false_alarm_rate) <= high
    assert low <= found <= high


@pytest.mark.validity("breaking")
@pytest.mark.parametrize("name", SCORERS)
def test_what_cannot_be_read_is_a_failure_and_no_level(name: str, records: Records) -> None:
    refusal = ScriptedClient(lambda _: "I'm sorry, but I can't help with that.")
    scorer = {
        "simulation": SimulationScorer(client=refusal),
        "simulation_all_at_once": AllAtOnceSimulationScorer(reader=PlacedReader(lambda _: {})),
        "simulation_token_by_token": TokenByTokenSimulationScorer(client=refusal),
    }[name]
    score = pooled(scorer, records[:2])
    assert {trial.predicted for trial in score.simulations} == {None}
    found = correlation(score)
    assert (found.value, found.n, found.n_failed) == (None, 0, len(score.simulations))
    assert found.reason == "no window was simulated"
