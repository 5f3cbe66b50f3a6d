"""Forced choices in the planted world: the oracle is always right, whoever knows nothing is right once in n times."""

from collections.abc import Callable

import pytest

from sae_auto_interp.judges import LlmJudge
from sae_auto_interp.metrics import choice_accuracy
from sae_auto_interp.planted import PlantedJudge, broad_explanation
from sae_auto_interp.protocols import Judge, Scorer
from sae_auto_interp.scorers import DiscriminationScorer, IntruderExplainedScorer, IntruderScorer
from sae_auto_interp.types import FeatureRecord, Score
from tests.validity import simulated
from tests.validity.chance import choice_interval
from tests.validity.pooled import hidden, pooled

Records = list[FeatureRecord]
SEED = 1
SCORERS: dict[str, tuple[Callable[[Judge], Scorer], int]] = {
    "discrimination": (lambda judge: DiscriminationScorer(judge=judge, seed=SEED), 2),
    "discrimination of 3": (lambda judge: DiscriminationScorer(judge=judge, n_choices=3, seed=SEED), 3),
    "intruder": (lambda judge: IntruderScorer(judge=judge, n_trials=20, seed=SEED), 5),
    "intruder_explained": (lambda judge: IntruderExplainedScorer(judge=judge, n_trials=20, seed=SEED), 5),
}
IGNORANT = [
    simulated.guessing,
    simulated.counting_marks,
    simulated.by_position,
    simulated.by_length,
    simulated.guessing_the_base_rate,
]


def value(score: Score) -> float:
    found = choice_accuracy(score)
    assert found.value is not None, found.reason
    assert found.n_failed == 0
    return found.value


def chosen_records(name: str, records: Records, near_records: Records) -> Records:
    """Discrimination is among neighbours' windows."""
    return near_records if name.startswith("discrimination") else records


def score_of(name: str, judge: Judge, records: Records) -> Score:
    return pooled(SCORERS[name][0](judge), records)


@pytest.mark.validity("oracle")
@pytest.mark.parametrize("name", SCORERS)
def test_the_oracle_is_always_right(name: str, records: Records, near_records: Records) -> None:
    chosen = chosen_records(name, records, near_records)
    assert value(score_of(name, simulated.judge(simulated.oracle), chosen)) == 1.0
    if name != "intruder":  # a judge that gives verdicts cannot find an intruder without an explanation
        assert value(score_of(name, PlantedJudge(), chosen)) == 1.0


@pytest.mark.validity("constant")
@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("mind", [simulated.always_yes, simulated.always_no])
def test_the_same_place_every_time_is_exactly_chance(
    name: str, mind: simulated.Mind, records: Records, near_records: Records
) -> None:
    found = score_of(name, simulated.judge(mind), chosen_records(name, records, near_records))
    assert value(found) == pytest.approx(1 / SCORERS[name][1])


@pytest.mark.validity
@pytest.mark.parametrize(
    ("name", "mind"),
    [(n, m) for n in SCORERS for m in IGNORANT if n.startswith("intruder") or m is not simulated.counting_marks],
)
def test_a_judge_that_knows_nothing_is_at_chance(
    name: str, mind: simulated.Mind, records: Records, near_records: Records
) -> None:
    found = score_of(name, simulated.judge(mind), chosen_records(name, records, near_records))
    low, high = choice_interval(len(found.choices), 1 / SCORERS[name][1])
    assert low <= value(found) <= high


@pytest.mark.validity("counting_marks")
@pytest.mark.parametrize("name", ["discrimination"])
def test_where_no_marks_are_shown_counting_them_is_a_draw(name: str, near_records: Records) -> None:
    client = simulated.model(simulated.counting_marks)
    found = score_of(name, LlmJudge(client=client), near_records)
    assert not any("<<" in request.messages[-1].content for request in client.requests)
    low, high = choice_interval(len(found.choices), 1 / SCORERS[name][1])
    assert low <= value(found) <= high


@pytest.mark.validity("hidden")
@pytest.mark.parametrize("name", ["discrimination", "discrimination of 3", "intruder_explained"])
def test_a_judge_that_is_told_nothing_is_at_chance(name: str, records: Records, near_records: Records) -> None:
    scorer = SCORERS[name][0](simulated.judge(simulated.oracle))
    found = pooled(scorer, chosen_records(name, records, near_records), hidden)
    low, high = choice_interval(len(found.choices), 1 / SCORERS[name][1])
    assert low <= value(found) <= high


@pytest.mark.validity("hidden")
@pytest.mark.parametrize("name", ["intruder"])
def test_what_reads_no_explanation_scores_the_same_without_it(name: str, records: Records) -> None:
    """The probe has no value here: there is nothing to hide."""
    scorer = SCORERS[name][0](simulated.judge(simulated.oracle))
    assert pooled(scorer, records[:4], hidden) == pooled(scorer, records[:4])


@pytest.mark.validity("erring")
@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("error_rate", [0.3])
def test_errors_cost_what_they_should(name: str, error_rate: float, records: Records, near_records: Records) -> None:
    mind = simulated.erring(error_rate, error_rate)
    found = score_of(name, simulated.judge(mind), chosen_records(name, records, near_records))
    low, high = choice_interval(len(found.choices), 1 - error_rate)
    assert low <= value(found) <= high


def test_features_with_one_explanation_cannot_be_told_apart(near_records: Records) -> None:
    """The over-broad rule fits the neighbour's windows as well: discrimination is at chance, for both judges."""
    for judge in (simulated.judge(simulated.oracle), PlantedJudge()):
        found = pooled(DiscriminationScorer(judge=judge), near_records, broad_explanation)
        low, high = choice_interval(len(found.choices), 1 / 2)
        assert low <= value(found) <= high
