"""SAEBench's protocol: what is shown, and its goldens."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.errors import ConfigError
from sae_auto_interp.judges import LlmJudge
from sae_auto_interp.metrics import accuracy, balanced_accuracy, mcc
from sae_auto_interp.protocols import Judge
from sae_auto_interp.scorers import SaebenchScorer
from sae_auto_interp.types import FeatureId, FeatureRecord, Response, Score, Usage
from tests.support.evidence import PlainJudge, explanation_of, make_evidence, make_example, oracle, planted_record


def fires(tokens: Sequence[str], i: int) -> bool:
    return tokens[i] == " cat"


RECORD = planted_record(fires, n=50)


def score_of(judge: Judge, record: FeatureRecord = RECORD, **settings: int) -> Score:
    return asyncio.run(SaebenchScorer(judge=judge, **settings).score(record, explanation_of(record), "e"))


def answered(text: str) -> Score:
    return score_of(LlmJudge(client=ScriptedClient([Response(text, Usage(1, 1, 1), "stop", "m")])))


def test_the_answer_none_is_right_in_10_of_14() -> None:
    score = answered("None")
    assert accuracy(score).value == pytest.approx(10 / 14)
    assert (balanced_accuracy(score).value, mcc(score).value) == (0.5, 0.0)
    assert (accuracy(score).n, score.usage) == (14, Usage(1, 1, 1))


def test_a_perfect_judge_scores_1() -> None:
    judge = oracle(fires)
    assert accuracy(score_of(judge)).value == 1.0
    assert (judge.tasks, [len(batch) for batch in judge.batches]) == ({"saebench"}, [14])


@pytest.mark.parametrize("text", ["{0}, {1}, {2}, {3}", "{3}, {2} and {1}, {0}", "{0}, {0}, {1}, {2}, {3}"])
def test_the_numbers_of_the_firing_windows_score_1_however_they_are_listed(text: str) -> None:
    right = [i for i, trial in enumerate(score_of(oracle(fires)).trials, 1) if trial.target]
    assert accuracy(answered(text.format(*right))).value == 1.0


def test_a_reply_that_cannot_be_read_is_counted_and_not_dropped() -> None:
    score = answered("I would rather not say")
    assert (accuracy(score).value, accuracy(score).n_failed) == (None, 14)


def test_two_strongest_and_two_by_importance_and_ten_silent_windows_are_shown() -> None:
    trials = score_of(oracle(fires)).trials
    assert Counter(t.source for t in trials) == {"activating": 4, "random": 10}
    strongest = sorted(RECORD.test, key=lambda e: -e.max_activation)[:2]
    assert {e.document for e in strongest} <= {t.document for t in trials}
    assert len({t.document for t in trials}) == 14


def test_the_others_are_drawn_by_the_square_of_their_maximum() -> None:
    """One at 2 and one at 1 below the top: 4 to 1."""
    test = [make_example([" cat"], [value], document=d) for d, value in enumerate([9, 2, 1])]
    record = make_evidence(test=test)
    drawn = Counter(
        t.document
        for index in range(600)
        for t in score_of(
            PlainJudge(lambda s: True), replace(record, feature=FeatureId("h.1", index)), n_top=1, n_by_importance=1
        ).trials
        if t.document
    )
    assert abs(drawn[1] / 600 - 0.8) < 4 * np.sqrt(0.8 * 0.2 / 600)


def test_fewer_windows_are_shown_where_there_are_fewer() -> None:
    record = make_evidence(test=RECORD.test[:1], silent=RECORD.non_activating.test[:3])
    assert len(score_of(oracle(fires), record).trials) == 4
    assert score_of(oracle(fires), make_evidence()).trials == ()


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="n_top=-1"):
        SaebenchScorer(judge=oracle(fires), n_top=-1)
    with pytest.raises(ConfigError, match="shows no window"):
        SaebenchScorer(judge=oracle(fires), n_top=0, n_by_importance=0, n_silent=0)


def test_windows_that_are_called_silent_unseen_cap_a_perfect_judge() -> None:
    """Why silent windows are verified. At a density of 1 % a window of 21 tokens fires with probability 1 - .99^21, and
    an accuracy of .864 is all that is left where such windows are called silent (SAEBench); here they are none."""
    density, n_features = 0.01, 400
    rng = np.random.default_rng(0)
    capped: list[float] = []
    for index in range(n_features):
        drawn = [make_example([" cat" if fired else " dog" for fired in rng.random(21) < density], document=9 + i)
                 for i in range(10)]  # fmt: skip
        record = replace(make_evidence(test=RECORD.test, silent=drawn), feature=FeatureId("h.1", index))
        capped.append(accuracy(score_of(oracle(fires), record)).value or 0.0)
    rate = 1 - (1 - density) ** 21
    standard_error = float(np.sqrt(10 * rate * (1 - rate)) / 14 / np.sqrt(n_features))
    assert 1 - 10 / 14 * rate == pytest.approx(0.864, abs=5e-4)
    assert abs(float(np.mean(capped)) - 0.864) < 3 * standard_error
