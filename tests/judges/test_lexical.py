"""The lexical judge applies the rule in the sentence, and nothing but that."""

import asyncio
from collections.abc import Sequence

import pytest

from sae_auto_interp.judges import LexicalJudge
from sae_auto_interp.prompting.token_rules import Clause, Support, write_rule
from sae_auto_interp.types import Failure, ShownExample, Usage, Verdict

RULE = write_rule([Support(Clause(token=" cat"), 3), Support(Clause(token="(", previous=" foo"), 1)], 4)


def verdicts(
    examples: Sequence[ShownExample], task: str, explanation: str = RULE, marked_fraction: float = 0.5
) -> list[Verdict | Failure]:
    judge = LexicalJudge(marked_fraction=marked_fraction)
    answers, usage = asyncio.run(judge.judge(explanation, examples, task))
    assert usage == Usage()
    return answers


def shown(*tokens: str, marks: str | None = None) -> ShownExample:
    """`marks` has an x under each marked token."""
    return ShownExample(tokens, None if marks is None else tuple(mark == "x" for mark in marks))


def test_detection_asks_whether_the_rule_holds_anywhere() -> None:
    examples = [
        shown(" the", " cat", " sat"),
        shown(" foo", "("),
        shown(" the", " dog", "("),
        shown("(", " foo"),
        shown(" cats", "cat", " Cat"),
    ]
    assert verdicts(examples, "detection") == [Verdict(fits) for fits in (True, True, False, False, False)]


@pytest.mark.parametrize(
    ("marks", "fits"),
    [("x---", True), ("-x--", False), ("xx--", True), ("xxx-", False), ("--xx", True), ("xxxx", True), ("----", False)],
)
def test_fuzzing_asks_whether_half_of_the_marked_tokens_satisfy_the_rule(marks: str, fits: bool) -> None:
    assert verdicts([shown(" cat", " a", " foo", "(", marks=marks)], "fuzzing") == [Verdict(fits)]


def test_the_token_before_a_marked_one_need_not_be_marked() -> None:
    assert verdicts([shown(" foo", "(", marks="-x"), shown("(", " foo", marks="x-")], "fuzzing") == [
        Verdict(True),
        Verdict(False),
    ]


def test_the_share_of_marked_tokens_is_a_setting() -> None:
    example = shown(" cat", " a", " b", " c", marks="xxxx")
    assert verdicts([example], "fuzzing", marked_fraction=0.25) == [Verdict(True)]
    assert verdicts([example], "fuzzing", marked_fraction=0.26) == [Verdict(False)]


@pytest.mark.parametrize("explanation", ["words about cats", "", "Fires on cats.", RULE + " Really."])
@pytest.mark.parametrize("task", ["detection", "fuzzing"])
def test_an_explanation_without_a_rule_fails_for_every_example(explanation: str, task: str) -> None:
    answers = verdicts([shown(" cat", marks="x")] * 3, task, explanation)
    assert [(a.stage, a.kind, a.raw) for a in answers if isinstance(a, Failure)] == [
        ("score", "no_rule", explanation)
    ] * 3


def test_no_example_no_verdict() -> None:
    assert verdicts([], "detection") == []
    assert LexicalJudge().name == "lexical"
