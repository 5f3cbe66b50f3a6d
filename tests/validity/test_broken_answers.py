"""Models that break the format: their answers are failures, each with what the model said, and never a score."""

from itertools import cycle

import pytest

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.errors import TimeoutExceededError
from sae_auto_interp.judges import LlmJudge
from sae_auto_interp.metrics import balanced_accuracy, choice_accuracy, failure_bounds
from sae_auto_interp.registry import load_component
from sae_auto_interp.scorers import DetectionScorer
from sae_auto_interp.types import FeatureRecord, Request
from tests.validity import simulated
from tests.validity.pooled import pooled

REFUSAL = "I'm sorry, but I can't help with that."
NO_VERDICTS = (
    "", REFUSAL, "The first one fits, the others do not.", "[1, 0", "[1]", "[1, 0, 1, 0, 1, 1, 0]",
    '{"verdicts": "yes"}', "[0.5, 0.5, 0.5, 0.5, 0.5]", "[null, null, null, null, null]", "null",
    '{"verdicts": [1, 0, 2, 0, 1]}',
)  # fmt: skip
NO_CHOICE = ("", REFUSAL, "2 or 3", '{"choice": 99}', '{"choice": 0}', "none of them", '{"choice": null}', "3.5")
NO_NUMBERS = ("", REFUSAL, "The first one.", "[]", "All of them would")


def breaking(answers: tuple[str, ...]) -> LlmJudge:
    turns = cycle(answers)
    return LlmJudge(client=ScriptedClient(lambda _: next(turns)))


@pytest.mark.validity("breaking")
@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("detection", NO_VERDICTS),
        ("fuzzing", NO_VERDICTS),
        ("fuzzing_same_window", NO_VERDICTS),
        ("fuzzing_delphi", NO_VERDICTS),
        ("saebench", NO_NUMBERS),
    ],
)
def test_no_broken_answer_becomes_a_verdict(name: str, answers: tuple[str, ...], records: list[FeatureRecord]) -> None:
    found = pooled(load_component("scorers", name)(judge=breaking(answers)), records)
    assert {trial.failure.raw for trial in found.trials if trial.failure is not None} == set(answers)
    assert all((trial.prediction, trial.confidence) == (None, None) for trial in found.trials)
    estimate = balanced_accuracy(found)
    assert (estimate.value, estimate.low, estimate.n, estimate.n_failed) == (None, None, 0, len(found.trials))
    assert estimate.reason
    bounds = failure_bounds(found)
    assert (bounds.if_all_wrong.value, bounds.if_all_right.value) == (0.0, 1.0)


@pytest.mark.validity("breaking")
@pytest.mark.parametrize("name", ["discrimination", "intruder", "intruder_explained"])
def test_no_broken_answer_becomes_a_choice(name: str, near_records: list[FeatureRecord]) -> None:
    found = pooled(load_component("scorers", name)(judge=breaking(NO_CHOICE)), near_records[:3])
    assert {choice.failure.raw for choice in found.choices if choice.failure is not None} == set(NO_CHOICE)
    estimate = choice_accuracy(found)
    assert (estimate.value, estimate.n, estimate.n_failed) == (None, 0, len(found.choices))


def test_what_is_answered_in_form_counts_alone(records: list[FeatureRecord]) -> None:
    """The oracle, of which every third answer is a refusal or never comes: perfect on what it did answer."""
    oracle = simulated.model(simulated.oracle)
    count = 0

    def script(request: Request) -> object:
        nonlocal count
        count += 1
        if count % 3 == 0:
            return REFUSAL if count % 2 else TimeoutExceededError("no answer within 60 s")
        return oracle.script(request)  # type: ignore[operator]

    found = pooled(DetectionScorer(judge=LlmJudge(client=ScriptedClient(script))), records)  # type: ignore[arg-type]
    estimate = balanced_accuracy(found)
    assert estimate.value == 1.0
    assert estimate.n_failed == pytest.approx(len(found.trials) / 3, abs=5)
    assert {failure.kind for failure in found.failures} == {"unparsable", "timeout"}
    assert failure_bounds(found).if_all_wrong.value == pytest.approx(2 / 3, abs=0.06)
