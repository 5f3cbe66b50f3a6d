"""What every classification scorer owes: all examples asked once, nothing given away, failures kept apart."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sae_auto_interp.clients import LimitedClient, ScriptedClient
from sae_auto_interp.errors import ConfigError, ServerError
from sae_auto_interp.judges import LlmJudge
from sae_auto_interp.protocols import Judge
from sae_auto_interp.scorers import DetectionScorer, FuzzingScorer, RecallScorer
from sae_auto_interp.types import Failure, FeatureId, FeatureRecord, Request, Score, ShownExample, Trial, Usage, Verdict
from tests.support.evidence import PlainJudge, explanation_of, make_evidence, make_example, oracle, planted_record

Scorer = DetectionScorer | FuzzingScorer
SCORERS = [DetectionScorer, FuzzingScorer]
FAILURE = Failure("score", "unparsable", "no list", "hm")


def fires(tokens: Sequence[str], i: int) -> bool:
    return tokens[i] == " cat"


RECORD = planted_record(fires, n=43)


def score_of(scorer: Scorer, record: FeatureRecord = RECORD) -> Score:
    return asyncio.run(scorer.score(record, explanation_of(record), "e1"))


def balanced_accuracy(trials: Sequence[Trial]) -> float:
    rates = [np.mean([t.prediction == t.target for t in trials if t.target is target]) for target in (True, False)]
    return float(np.mean(rates))


def identity(trial: Trial) -> tuple[bool, int]:
    return trial.target, trial.document


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_perfect_judge_scores_1(scorer: type[Scorer]) -> None:
    assert balanced_accuracy(score_of(scorer(judge=oracle(fires))).trials) == 1.0


@pytest.mark.parametrize("answer", [True, False])
@pytest.mark.parametrize("scorer", SCORERS)
def test_a_constant_judge_scores_exactly_one_half(scorer: type[Scorer], answer: bool) -> None:
    assert balanced_accuracy(score_of(scorer(judge=PlainJudge(lambda shown: answer))).trials) == 0.5


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_judge_that_flips_coins_is_near_one_half(scorer: type[Scorer]) -> None:
    rng = np.random.default_rng(3)
    record = planted_record(fires, n=500)
    judge = PlainJudge(lambda shown: bool(rng.random() < 0.7))
    assert abs(balanced_accuracy(score_of(scorer(judge=judge), record).trials) - 0.5) < 0.07  # 5 standard errors


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_judge_that_counts_tokens_is_exactly_at_chance(scorer: type[Scorer]) -> None:
    for n_tokens in range(14):
        judge = PlainJudge(lambda shown, n=n_tokens: len(shown.str_tokens) >= n)
        assert balanced_accuracy(score_of(scorer(judge=judge)).trials) == 0.5


@pytest.mark.parametrize("scorer", SCORERS)
def test_how_many_are_shown_at_once_changes_no_verdict_of_a_judge_that_looks_at_each_alone(
    scorer: type[Scorer],
) -> None:
    def by_text(shown: ShownExample) -> bool:
        return len("".join(shown.str_tokens)) % 3 == 0

    found = [score_of(scorer(judge=PlainJudge(by_text), n_shown=n)).trials for n in (1, 2, 5, 1000)]
    assert found[0] == found[1] == found[2] == found[3]


@pytest.mark.parametrize("n_shown", [1, 5, 7, 86, 1000])
@pytest.mark.parametrize("scorer", SCORERS)
def test_every_test_example_is_asked_once_also_in_a_short_last_batch(scorer: type[Scorer], n_shown: int) -> None:
    judge = oracle(fires)
    score = score_of(scorer(judge=judge, n_shown=n_shown))
    sizes = [len(batch) for batch in judge.batches]
    assert sizes == [n_shown] * (86 // n_shown) + ([86 % n_shown] if 86 % n_shown else [])
    expected = [(True, e.document) for e in RECORD.test] + [(False, e.document) for e in RECORD.non_activating.test]
    assert sorted(map(identity, score.trials)) == sorted(expected)
    assert [t.prediction for t in score.trials] == [t.target for t in score.trials]
    assert score.usage == Usage(n_requests=len(sizes))


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_trial_carries_what_is_known_of_its_example(scorer: type[Scorer]) -> None:
    test = [make_example([" cat"], [n], document=n, quantile=n % 3) for n in range(1, 7)]
    silent = [make_example([" dog"], document=10 + n, source="neighbour") for n in range(6)]
    score = score_of(scorer(judge=oracle(fires)), make_evidence(test=test, silent=silent))
    assert {(t.document, t.quantile, t.source, t.target) for t in score.trials} == {
        *((n, n % 3, "activating", True) for n in range(1, 7)),
        *((10 + n, None, "neighbour", False) for n in range(6)),
    }
    assert (score.feature, score.scorer, score.explanation_id, score.kind) == (
        RECORD.feature, scorer.name, "e1", "classification",
    )  # fmt: skip


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_failure_becomes_a_trial_without_a_prediction(scorer: type[Scorer]) -> None:
    judge = PlainJudge(lambda shown: FAILURE if " dog" in shown.str_tokens else fires(shown.str_tokens, 0))
    trials = score_of(scorer(judge=judge)).trials
    by_document = {e.document: e for e in (*RECORD.test, *RECORD.non_activating.test)}
    assert len(trials) == 86
    for trial in trials:
        failed = " dog" in by_document[trial.document].str_tokens
        assert (trial.failure, trial.prediction is None) == ((FAILURE, True) if failed else (None, False))
        assert trial.confidence is None


class ConfidentJudge(PlainJudge):
    async def judge(
        self, explanation: str, examples: Sequence[ShownExample], task: str
    ) -> tuple[list[Verdict | Failure], Usage]:
        return [Verdict(True, 0.8)] * len(examples), Usage()


def test_a_probability_becomes_the_confidence() -> None:
    trials = score_of(DetectionScorer(judge=ConfidentJudge(lambda shown: True))).trials
    assert {(t.prediction, t.confidence) for t in trials} == {(True, 0.8)}


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_judge_must_answer_as_often_as_it_is_asked(scorer: type[Scorer]) -> None:
    class Forgetful(PlainJudge):
        async def judge(
            self, explanation: str, examples: Sequence[ShownExample], task: str
        ) -> tuple[list[Verdict | Failure], Usage]:
            return [Verdict(True)], Usage()

    with pytest.raises(AssertionError, match="judge plain gave 1 verdicts on 5 examples"):
        score_of(scorer(judge=Forgetful(lambda shown: True)))


@pytest.mark.parametrize("scorer", SCORERS)
def test_examples_without_strings_are_failures_that_nobody_is_asked_about(scorer: type[Scorer]) -> None:
    bare = [replace(example, str_tokens=()) for example in RECORD.test[:4]]
    judge = oracle(fires)
    record = make_evidence(test=[*bare, *RECORD.test[4:]], silent=RECORD.non_activating.test)
    trials = score_of(scorer(judge=judge), record).trials
    failed = [t for t in trials if t.failure is not None]
    assert sorted(t.document for t in failed) == sorted(e.document for e in bare)
    assert {(t.prediction, t.failure.kind) for t in failed if t.failure} == {(None, "no_text")}
    assert len(trials) == 86
    assert all(shown.str_tokens for batch in judge.batches for shown in batch)


@pytest.mark.parametrize("scorer", SCORERS)
def test_the_order_is_shuffled_and_depends_on_seed_and_feature_alone(scorer: type[Scorer]) -> None:
    def order(record: FeatureRecord = RECORD, **settings: int) -> list[tuple[bool, int]]:
        return [identity(t) for t in score_of(scorer(judge=oracle(fires), **settings), record).trials]

    first = order()
    assert first == order() == order(n_shown=11) == order(n_shown=1)
    assert first != order(seed=1)
    assert first != order(replace(RECORD, feature=FeatureId("transformer.h.1", 8)))
    assert first != sorted(first)
    assert first != sorted(first, reverse=True)


@pytest.mark.parametrize("scorer", SCORERS)
def test_batches_hide_the_base_rate(scorer: type[Scorer]) -> None:
    """The number of activating examples in a batch varies as in a draw without replacement."""
    record = planted_record(fires, n=300)
    trials = score_of(scorer(judge=oracle(fires)), record).trials
    per_batch = [sum(t.target for t in trials[i : i + 5]) for i in range(0, 600, 5)]
    counts = np.bincount(per_batch, minlength=6) / len(per_batch)
    binomial = np.array([1, 5, 10, 10, 5, 1]) / 32
    assert counts[1:5].min() > 0
    assert np.abs(counts - binomial).max() < 0.15
    halves = [sum(t.target for t in trials[:300]), sum(t.target for t in trials[300:])]
    assert abs(halves[0] - halves[1]) < 100


class WaitingJudge(PlainJudge):
    """Answers later batches earlier."""

    async def judge(
        self, explanation: str, examples: Sequence[ShownExample], task: str
    ) -> tuple[list[Verdict | Failure], Usage]:
        n_before = len(self.batches)
        answers = await super().judge(explanation, examples, task)
        for _ in range(40 - n_before):
            await asyncio.sleep(0)
        return answers


@pytest.mark.parametrize("scorer", SCORERS)
def test_the_order_of_answers_changes_nothing(scorer: type[Scorer]) -> None:
    plain = oracle(fires)
    assert score_of(scorer(judge=WaitingJudge(plain.answer))) == score_of(scorer(judge=plain))


@pytest.mark.parametrize("scorer", SCORERS)
def test_concurrency_changes_nothing(scorer: type[Scorer]) -> None:
    def judge(max_concurrency: int) -> Judge:
        client = ScriptedClient(_last_digit_decides, latency_seconds=0.001)
        return LlmJudge(client=LimitedClient(client, max_concurrency=max_concurrency))

    scores = [score_of(scorer(judge=judge(n))) for n in (1, 3, 100)]
    assert scores[0] == scores[1] == scores[2]
    kinds = {None if t.failure is None else t.failure.kind for t in scores[0].trials}
    assert kinds == {None, "server_error"}


def _last_digit_decides(request: Request) -> Any:
    """An answer that depends on the request alone; every now and then there is none."""
    value = sum(map(ord, request.messages[1].content))
    n = request.messages[1].content.count("Excerpt ")
    return ServerError("503") if value % 4 == 0 else str([(value >> i) & 1 for i in range(n)])


def test_the_judge_is_told_the_task() -> None:
    detecting, fuzzing = oracle(fires), oracle(fires)
    score_of(DetectionScorer(judge=detecting))
    score_of(FuzzingScorer(judge=fuzzing))
    assert (detecting.tasks, fuzzing.tasks) == ({"detection"}, {"fuzzing"})
    assert RecallScorer is DetectionScorer


def test_detection_shows_no_marks() -> None:
    judge = oracle(fires)
    score_of(DetectionScorer(judge=judge))
    assert {shown.highlighted for batch in judge.batches for shown in batch} == {None}


@pytest.mark.parametrize("scorer", SCORERS)
def test_nothing_to_ask_gives_no_trial(scorer: type[Scorer]) -> None:
    score = score_of(scorer(judge=oracle(fires)), make_evidence())
    assert (score.trials, score.usage) == ((), Usage())


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_prompt_has_room_for_at_least_one_example(scorer: type[Scorer]) -> None:
    with pytest.raises(ConfigError, match=f"{scorer.name}.n_shown=0"):
        scorer(judge=oracle(fires), n_shown=0)
