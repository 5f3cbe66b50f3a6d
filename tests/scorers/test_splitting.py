"""Questions that are too long for a judge's context are put in smaller groups, where the task allows that."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.errors import ClientError, PromptTooLongError
from sae_auto_interp.judges import LlmJudge
from sae_auto_interp.results.codec import decode_score, encode_score
from sae_auto_interp.scorers import DetectionScorer, FuzzingScorer, IntruderScorer, SaebenchScorer
from sae_auto_interp.types import Failure, Request, Score, ShownExample, Usage, Verdict
from tests.support.evidence import explanation_of, planted_record

RECORD = planted_record(lambda tokens, i: tokens[i] == " cat", n=15)


@dataclass
class SmallJudge:
    """Knows the feature, and holds so many examples at a time."""

    most: int
    name: str = "small"
    asked: list[int] = field(default_factory=list[int])

    async def judge(
        self, explanation: str, examples: Sequence[ShownExample], task: str
    ) -> tuple[list[Verdict | Failure], Usage]:
        self.asked.append(len(examples))
        if len(examples) > self.most:
            return [Failure("score", "prompt_too_long", "too long")] * len(examples), Usage(n_requests=1)
        return [Verdict(" cat" in shown.str_tokens) for shown in examples], Usage(1, 1, 1)


def scored(judge: SmallJudge, n_shown: int) -> Score:
    return asyncio.run(DetectionScorer(judge=judge, n_shown=n_shown).score(RECORD, explanation_of(RECORD), "e"))


@pytest.mark.parametrize(("most", "n_split"), [(10, 0), (5, 3), (3, 9), (1, 27)])
def test_groups_are_halved_until_they_fit_and_the_score_says_how_often(most: int, n_split: int) -> None:
    judge = SmallJudge(most)
    score, whole = scored(judge, 10), scored(SmallJudge(10), 10)
    assert score.trials == whole.trials, "the same questions with the same answers, in the same order"
    assert score.n_split == n_split
    assert score.usage.n_requests == len(judge.asked)
    assert decode_score(encode_score(score)) == score


def test_an_example_that_is_too_long_alone_is_a_failure_that_names_the_setting() -> None:
    score = scored(SmallJudge(0), 4)
    assert {failure.kind for failure in score.failures} == {"prompt_too_long"}
    assert len(score.failures) == len(score.trials)
    assert all("lower features.window" in failure.message for failure in score.failures)


def judge_with_room_for(n_words: int) -> LlmJudge:
    def script(request: Request) -> str | ClientError:
        n = sum(len(message.content.split()) for message in request.messages)
        n_examples = request.messages[-1].content.count("Excerpt ")
        return PromptTooLongError("too long") if n > n_words else f'{{"verdicts": {[1] * n_examples}}}'

    return LlmJudge(client=ScriptedClient(script))


def test_a_language_model_as_judge_is_asked_in_smaller_groups() -> None:
    for scorer in (DetectionScorer, FuzzingScorer):
        score = asyncio.run(
            scorer(judge=judge_with_room_for(200), n_shown=10).score(RECORD, explanation_of(RECORD), "e")
        )
        assert score.failures == ()
        assert score.n_split > 0


def test_what_must_stand_together_is_not_split() -> None:
    saebench = SaebenchScorer(judge=SmallJudge(3))
    score = asyncio.run(saebench.score(RECORD, explanation_of(RECORD), "e"))
    assert {failure.kind for failure in score.failures} == {"prompt_too_long"}
    assert "scorers.saebench.n_silent" in score.failures[0].message
    intruder = asyncio.run(IntruderScorer(judge=judge_with_room_for(10)).score(RECORD, explanation_of(RECORD), "e"))
    assert {failure.kind for failure in intruder.failures} == {"prompt_too_long"}
    assert "scorers.intruder.n_choices" in intruder.failures[0].message
