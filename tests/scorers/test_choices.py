"""Forced choices: intruders with and without explanation, and discrimination from neighbours."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sae_auto_interp.clients import LimitedClient, ScriptedClient
from sae_auto_interp.errors import ConfigError, ServerError
from sae_auto_interp.judges import LlmJudge
from sae_auto_interp.metrics import choice_accuracy, choice_chance, discrimination
from sae_auto_interp.protocols import Chooser, Judge, Scorer
from sae_auto_interp.scorers import DetectionScorer, DiscriminationScorer, IntruderExplainedScorer, IntruderScorer
from sae_auto_interp.types import Failure, FeatureRecord, Request, Score, ShownExample, Usage
from tests.metrics.scores import assert_rate
from tests.support.evidence import PlainJudge, explanation_of, make_evidence, make_example, oracle, planted_record


def fires(tokens: Sequence[str], i: int) -> bool:
    return tokens[i] == " cat"


def in_quantiles(record: FeatureRecord, n: int = 4) -> FeatureRecord:
    test = tuple(replace(e, quantile=i * n // len(record.test)) for i, e in enumerate(record.test))
    return replace(record, test=test)


def with_neighbours(record: FeatureRecord, source: Any = "neighbour") -> FeatureRecord:
    near = tuple(replace(example, source=source) for example in record.non_activating.test)
    return replace(record, non_activating=replace(record.non_activating, test=near))


RECORD = in_quantiles(planted_record(fires, n=40))
NEAR = with_neighbours(RECORD)


class PlainChooser(PlainJudge):
    """Prefers by a function of each example alone."""

    async def choose(
        self, explanation: str | None, examples: Sequence[ShownExample], task: str
    ) -> tuple[Sequence[float] | Failure, Usage]:
        self.batches.append(list(examples))
        self.tasks.add(f"{task}/{explanation}")
        answers = [self.answer(example) for example in examples]
        failed = [answer for answer in answers if isinstance(answer, Failure)]
        return (failed[0] if failed else [float(a) for a in answers if not isinstance(a, Failure)]), Usage(1, 1, 1)


def lacks_a_cat(shown: ShownExample) -> bool:
    return " cat" not in shown.str_tokens


def score_of(scorer: Scorer, record: FeatureRecord = RECORD) -> Score:
    return asyncio.run(scorer.score(record, explanation_of(record), "e"))


def test_judges_that_compare_are_told_from_those_that_do_not() -> None:
    assert isinstance(PlainChooser(lacks_a_cat), Chooser)
    assert isinstance(LlmJudge(client=ScriptedClient([])), Chooser)
    assert not isinstance(oracle(fires), Chooser)


@pytest.mark.parametrize("scorer", [IntruderScorer, IntruderExplainedScorer])
def test_an_oracle_finds_every_intruder(scorer: type) -> None:
    judge = PlainChooser(lacks_a_cat)
    score = score_of(scorer(judge=judge))
    assert (choice_accuracy(score).value, choice_accuracy(score).n, choice_chance(score).value) == (1.0, 50, 0.2)
    assert (score.kind, score.trials, score.usage) == ("choice", (), Usage(50, 50, 50))
    assert {t.source for t in score.choices} == {"random"}
    assert Counter(t.quantile for t in score.choices) == {0: 13, 1: 13, 2: 12, 3: 12}
    explanation = "None" if scorer is IntruderScorer else explanation_of(RECORD).text
    assert judge.tasks == {f"{scorer.name}/{explanation}"}


def test_the_two_intruder_scorers_ask_the_same_questions() -> None:
    first, second = PlainChooser(lacks_a_cat), PlainChooser(lacks_a_cat)
    score_of(IntruderScorer(judge=first))
    score_of(IntruderExplainedScorer(judge=second))
    assert first.batches == second.batches


def test_each_question_has_one_intruder_among_windows_of_one_quantile() -> None:
    judge = PlainChooser(lacks_a_cat)
    score = score_of(IntruderScorer(judge=judge))
    quantile_of = {e.str_tokens: e.quantile for e in RECORD.test}
    for shown, trial in zip(judge.batches, score.choices, strict=True):
        others = [example for i, example in enumerate(shown) if i != trial.target]
        assert {quantile_of[example.str_tokens] for example in others} == {trial.quantile}
        assert len({example.str_tokens for example in others}) == 4
        assert all(example.highlighted and any(example.highlighted) for example in shown)
        assert shown[trial.target].str_tokens not in quantile_of


def test_each_place_is_the_intruders_equally_often() -> None:
    score = score_of(IntruderScorer(judge=PlainChooser(lacks_a_cat), n_trials=52))
    assert sorted(Counter(t.target for t in score.choices).values()) == [10, 10, 10, 11, 11]
    first = [t.target for t in score.choices]
    assert first != sorted(first)


@pytest.mark.parametrize("make", [IntruderScorer, IntruderExplainedScorer, DiscriminationScorer])
def test_a_judge_that_likes_all_alike_is_at_chance_by_the_drawn_ties(make: type) -> None:
    """500 features, so that chance is seen: the share of right choices is binomial."""
    record = NEAR if make is DiscriminationScorer else RECORD
    n_right = n = 0
    for index in range(12):
        feature = replace(record.feature, index=index)
        score = score_of(make(judge=PlainChooser(lambda shown: True)), replace(record, feature=feature))
        n_right += sum(t.chosen == t.target for t in score.choices)
        n += len(score.choices)
    assert_rate(n_right, n, 0.5 if make is DiscriminationScorer else 0.2)


def test_ties_are_drawn_evenly_over_the_places() -> None:
    scorer = IntruderScorer(judge=PlainChooser(lambda shown: True), n_trials=500)
    counts = Counter(t.chosen for t in score_of(scorer).choices)
    assert stats.chisquare([counts[i] for i in range(5)]).pvalue > 1e-3


def test_marks_alone_do_not_tell_the_intruder() -> None:
    """A judge that picks the window with most, or with fewest, marks."""

    def varied(tokens: Sequence[str], i: int) -> bool:
        return tokens[i] in (" cat", "(", " the") or (i > 0 and tokens[i - 1] == " cat")

    record = in_quantiles(planted_record(varied, n=80))
    for sign in (1, -1):
        judge = PlainChooser(lambda shown: sign * sum(shown.highlighted or ()))  # noqa: B023 - used within the loop
        score = score_of(IntruderScorer(judge=judge, n_trials=400), record)
        assert_rate(sum(t.chosen == t.target for t in score.choices), 400, 0.2)


def test_internal_intruders_fire_too_but_in_another_quantile() -> None:
    judge = PlainChooser(lacks_a_cat)
    score = score_of(IntruderScorer(judge=judge, intruders="internal"))
    quantile_of = {e.str_tokens: e.quantile for e in RECORD.test}
    for shown, trial in zip(judge.batches, score.choices, strict=True):
        assert quantile_of[shown[trial.target].str_tokens] not in (None, trial.quantile)
    assert {t.source for t in score.choices} == {"activating"}


def test_judges_that_do_not_compare_choose_by_their_verdicts() -> None:
    judge = oracle(fires)
    assert choice_accuracy(score_of(IntruderExplainedScorer(judge=judge))).value == 1.0
    assert judge.tasks == {"fuzzing"}
    judge = oracle(fires)
    assert choice_accuracy(score_of(DiscriminationScorer(judge=judge), NEAR)).value == 1.0
    assert judge.tasks == {"detection"}


def test_without_an_explanation_such_a_judge_cannot_choose() -> None:
    score = score_of(IntruderScorer(judge=oracle(fires), n_trials=3))
    assert [t.failure.kind for t in score.choices if t.failure] == ["cannot_compare"] * 3
    assert choice_accuracy(score).value is None


def test_a_failed_verdict_makes_the_choice_fail() -> None:
    broken = Failure("score", "unparsable", "no list", "hm")
    score = score_of(DiscriminationScorer(judge=PlainJudge(lambda shown: broken)), NEAR)
    assert {t.failure for t in score.choices} == {broken}
    assert {t.chosen for t in score.choices} == {None}


def test_discrimination_asks_every_activating_window_once_beside_a_neighbours() -> None:
    judge = PlainChooser(lambda shown: " cat" in shown.str_tokens)
    score = score_of(DiscriminationScorer(judge=judge), NEAR)
    own = [shown[trial.target].str_tokens for shown, trial in zip(judge.batches, score.choices, strict=True)]
    assert sorted(own) == sorted(e.str_tokens for e in RECORD.test)
    assert {len(shown) for shown in judge.batches} == {2}
    assert {t.source for t in score.choices} == {"neighbour"}
    assert (choice_accuracy(score).value, choice_chance(score).value) == (1.0, 0.5)
    assert {shown.highlighted for batch in judge.batches for shown in batch} == {None}


def test_an_explanation_that_fits_the_neighbours_as_well_detects_but_does_not_discriminate() -> None:
    """METHODS: the parent concept detects among random windows, and is at chance among near ones."""

    def animal(shown: ShownExample) -> bool:
        return " cat" in shown.str_tokens or " dog" in shown.str_tokens

    dogs = [e for e in planted_record(lambda t, i: t[i] == " dog", n=40, seed=5).test if " cat" not in e.str_tokens]
    far = [e for e in RECORD.non_activating.test if " dog" not in e.str_tokens][:12]
    near = [make_example(e.str_tokens, document=1000 + i, source="neighbour") for i, e in enumerate(dogs)]
    record = make_evidence(test=RECORD.test, silent=[*far, *near])
    detected = score_of(DetectionScorer(judge=PlainJudge(animal)), record)
    rates = {s: np.mean([not t.prediction for t in detected.trials if t.source == s]) for s in ("random", "neighbour")}
    assert rates == {"random": 1.0, "neighbour": 0.0}
    assert discrimination(detected).value == 0.5
    chosen = score_of(DiscriminationScorer(judge=PlainJudge(animal)), record)
    assert_rate(sum(t.chosen == t.target for t in chosen.choices), len(chosen.choices), 0.5)
    exact = score_of(DiscriminationScorer(judge=oracle(fires)), record)
    assert choice_accuracy(exact).value == 1.0


def test_what_the_record_lacks_is_one_failed_trial_with_the_reason() -> None:
    no_neighbours = score_of(DiscriminationScorer(judge=oracle(fires)), RECORD)
    few = score_of(IntruderScorer(judge=PlainChooser(lacks_a_cat)), in_quantiles(RECORD, n=20))
    no_silent = make_evidence(test=RECORD.test)
    lonely = score_of(IntruderScorer(judge=PlainChooser(lacks_a_cat)), no_silent)
    for score, words in (
        (no_neighbours, "source neighbour"),
        (few, "no quantile has 4"),
        (lonely, "no silent windows"),
    ):
        (failure,) = score.failures
        assert failure.kind == "too_few_examples"
        assert words in failure.message
        assert choice_accuracy(score).n_failed == 1


def test_windows_without_strings_fail_unasked() -> None:
    bare = replace(RECORD, test=tuple(replace(e, str_tokens=()) for e in RECORD.test))
    judge = PlainChooser(lacks_a_cat)
    score = score_of(IntruderScorer(judge=judge, n_trials=4), bare)
    assert [t.failure.kind for t in score.choices if t.failure] == ["no_text"] * 4
    assert judge.batches == []


@pytest.mark.parametrize("make", [IntruderScorer, IntruderExplainedScorer, DiscriminationScorer])
def test_concurrency_changes_nothing(make: type) -> None:
    def judge(max_concurrency: int) -> Judge:
        client = ScriptedClient(_by_the_request_alone, latency_seconds=0.001)
        return LlmJudge(client=LimitedClient(client, max_concurrency=max_concurrency))

    scores = [score_of(make(judge=judge(n)), NEAR) for n in (1, 7, 100)]
    assert scores[0] == scores[1] == scores[2]
    assert {None if t.failure is None else t.failure.kind for t in scores[0].choices} == {None, "server_error"}


def _by_the_request_alone(request: Request) -> Any:
    value = sum(map(ord, request.messages[1].content))
    n = request.messages[1].content.count("Excerpt ")
    return ServerError("503") if value % 4 == 0 else f'{{"choice": {value % n + 1}}}'


def test_settings_that_cannot_be_are_refused() -> None:
    judge = oracle(fires)
    with pytest.raises(ConfigError, match="n_choices=2"):
        IntruderScorer(judge=judge, n_choices=2)
    with pytest.raises(ConfigError, match="n_trials=0"):
        IntruderExplainedScorer(judge=judge, n_trials=0)
    with pytest.raises(ConfigError, match=r"intruder\.threshold=2"):
        IntruderScorer(judge=judge, threshold=2)
    with pytest.raises(ConfigError, match="n_choices=1"):
        DiscriminationScorer(judge=judge, n_choices=1)
