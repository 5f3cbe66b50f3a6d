"""Scorers that ask for verdicts: in the planted world every judge gets the score that theory gives it."""

from collections.abc import Callable, Sequence

import pytest

from sae_auto_interp.judges import HiddenJudge
from sae_auto_interp.metrics import accuracy, auroc, balanced_accuracy, confusion, precision_at_density
from sae_auto_interp.planted import broad_explanation, exact_explanation
from sae_auto_interp.protocols import Judge, Scorer
from sae_auto_interp.scorers import (
    DetectionScorer,
    FuzzingDelphiScorer,
    FuzzingSameWindowScorer,
    FuzzingScorer,
    SaebenchScorer,
)
from sae_auto_interp.types import FeatureRecord, Score
from tests.validity import simulated
from tests.validity.chance import erring_interval, ignorant_interval
from tests.validity.pooled import pooled

Records = list[FeatureRecord]
SEED = 1
SCORERS: dict[str, Callable[[Judge], Scorer]] = {
    "detection": lambda judge: DetectionScorer(judge=judge, seed=SEED),
    "fuzzing": lambda judge: FuzzingScorer(judge=judge, seed=SEED),
    "fuzzing_same_window": lambda judge: FuzzingSameWindowScorer(judge=judge, seed=SEED),
    "saebench": lambda judge: SaebenchScorer(judge=judge, seed=SEED),
    "fuzzing_delphi": lambda judge: FuzzingDelphiScorer(judge=judge, seed=SEED),
    "fuzzing_delphi, active": lambda judge: FuzzingDelphiScorer(judge=judge, negatives="active", seed=SEED),
}
DELPHI = ["fuzzing_delphi", "fuzzing_delphi, active"]
OURS = [name for name in SCORERS if name not in DELPHI]
BY_MARKS = [simulated.counting_marks, simulated.by_position]
"""With these, delphi's fuzzing is another matter: a test of its own."""
IGNORANT = [*BY_MARKS, simulated.guessing, simulated.by_length, simulated.guessing_the_base_rate]


def value(score: Score) -> float:
    found = balanced_accuracy(score)
    assert found.value is not None, found.reason
    assert found.n_failed == 0
    return found.value


def score_of(name: str, mind: simulated.Mind, records: Records) -> Score:
    return pooled(SCORERS[name](simulated.judge(mind)), records)


@pytest.mark.validity("oracle")
@pytest.mark.parametrize("name", SCORERS)
def test_the_oracle_is_perfect(name: str, records: Records, near_records: Records) -> None:
    chosen = near_records if name in ("detection", "fuzzing") else records
    assert value(score_of(name, simulated.oracle, chosen)) == 1.0


@pytest.mark.parametrize("name", ["detection", "fuzzing"])
def test_probabilities_of_the_oracle_rank_perfectly(name: str, records: Records) -> None:
    found = pooled(SCORERS[name](simulated.judge(simulated.oracle, top_logprobs=20)), records)
    assert auroc(found).value == 1.0
    assert auroc(pooled(SCORERS[name](simulated.judge(simulated.always_no, top_logprobs=20)), records)).value == 0.5


@pytest.mark.validity("constant")
@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("mind", [simulated.always_yes, simulated.always_no])
def test_a_constant_judge_is_exactly_at_one_half(name: str, mind: simulated.Mind, records: Records) -> None:
    found = score_of(name, mind, records)
    assert value(found) == 0.5
    if name == "saebench":  # why plain accuracy has no chance level of one half
        expected = 4 / 14 if mind is simulated.always_yes else 10 / 14
        assert accuracy(found).value == pytest.approx(expected)


@pytest.mark.validity
@pytest.mark.parametrize(
    ("name", "mind"), [(n, m) for n in SCORERS for m in IGNORANT if not (n in DELPHI and m in BY_MARKS)]
)
def test_a_judge_that_knows_nothing_is_at_chance(name: str, mind: simulated.Mind, records: Records) -> None:
    found = score_of(name, mind, records)
    low, high = ignorant_interval(confusion(found))
    assert low <= value(found) <= high


@pytest.mark.validity("hidden")
@pytest.mark.parametrize("name", SCORERS)
def test_a_judge_that_is_not_told_the_explanation_is_at_chance(name: str, records: Records) -> None:
    found = pooled(SCORERS[name](HiddenJudge(of=simulated.judge(simulated.oracle))), records)
    low, high = ignorant_interval(confusion(found))
    assert low <= value(found) <= high


@pytest.mark.validity("erring")
@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize(("miss_rate", "false_alarm_rate"), [(0.1, 0.3), (0.4, 0.0)])
def test_errors_cost_what_they_should(name: str, miss_rate: float, false_alarm_rate: float, records: Records) -> None:
    found = score_of(name, simulated.erring(miss_rate, false_alarm_rate), records)
    counts = confusion(found)
    low, high = erring_interval(counts.n_positive, counts.n_negative, miss_rate, false_alarm_rate)
    assert low <= 1 - (miss_rate + false_alarm_rate) / 2 <= high
    assert low <= value(found) <= high


def at_delphis_place(asked: simulated.Asked) -> Sequence[float]:
    """No where the token is marked that stands a quarter before the end."""
    return [float(not e.marked[len(e.words) - len(e.words) // 4]) for e in asked.excerpts]


@pytest.mark.validity("counting_marks", "by_position")
@pytest.mark.parametrize("name", DELPHI)
@pytest.mark.parametrize("mind", [simulated.counting_marks, at_delphis_place])
def test_delphis_marks_give_its_negatives_away(name: str, mind: simulated.Mind, records: Records) -> None:
    """Why `fuzzing_delphi` is a preset for comparison and not the default: no explanation is read here. Its negatives
    have more marks than its positives, and all of them one in the same place."""
    assert abs(value(score_of(name, mind, records)) - 0.5) > 0.3


@pytest.mark.parametrize("name", ["detection", "fuzzing"])
def test_a_rule_that_is_too_broad_is_found_out_by_near_negatives_and_in_text(
    name: str, records: Records, near_records: Records
) -> None:
    scorer = SCORERS[name](simulated.judge(simulated.oracle))
    random, near = (pooled(scorer, chosen, broad_explanation) for chosen in (records, near_records))
    assert value(pooled(scorer, near_records)) == 1.0
    assert value(random) > 0.97
    if name == "detection":
        assert value(near) == 0.5
    else:  # marks of farm animals, copied onto windows with wild ones, seldom fall on these
        assert 0.5 < value(near) < 0.95
    density = sum(r.stats.n_active_windows / r.stats.n_windows for r in records) / len(records)
    precision = precision_at_density(random, density).value
    assert precision is not None
    assert precision < (0.7 if name == "detection" else 0.9)
    assert precision_at_density(pooled(scorer, records), density).value == 1.0


def test_who_guesses_the_theme_of_a_batch_needs_no_explanation_against_random_windows(
    records: Records, near_records: Records
) -> None:
    """What no order or mark can hide: what firing windows share. Near negatives share as much with each other."""
    assert value(score_of("detection", simulated.guessing_the_theme, records)) > 0.8
    found = score_of("detection", simulated.guessing_the_theme, near_records)
    low, high = ignorant_interval(confusion(found))
    assert low <= value(found) <= high


def test_in_one_window_only_the_exact_token_counts(records: Records) -> None:
    """The word after a colour word, explained as "colour words": right windows, wrong tokens."""
    colours, after_colours = records[8], records[10]
    told = simulated.judge(simulated.oracle)
    detected = pooled(DetectionScorer(judge=told), [after_colours], lambda _: exact_explanation(colours.feature))
    located = pooled(FuzzingSameWindowScorer(judge=told), [after_colours], lambda _: exact_explanation(colours.feature))
    assert value(detected) == 1.0
    assert value(located) <= 0.5
