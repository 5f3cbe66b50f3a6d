"""Forced choices put to a judge, and the trials that come of them.

A judge that compares examples (`Chooser`) is asked for the one; any other is asked whether the explanation fits each,
and the best or worst fit is its choice. Ties are decided by a draw that was made before anyone was asked, so that
neither the order of the examples nor that of the answers matters.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sae_auto_interp.protocols import Chooser, Judge
from sae_auto_interp.scorers._questions import NO_TEXT, TOO_LONG, named_setting
from sae_auto_interp.types import (
    NO_DOCUMENT,
    ChoiceTrial,
    Example,
    ExampleSource,
    Failure,
    ShownExample,
    Usage,
    Verdict,
)

ChoiceTask = Literal["intruder", "intruder_explained", "discrimination"]
VERDICT_TASKS = {"intruder_explained": "fuzzing", "discrimination": "detection"}
"""What a judge that does not compare is asked about each example instead."""


@dataclass(frozen=True, slots=True)
class ChoiceQuestion:
    """Examples as the judge sees them, with the place of the right one, which the judge does not see."""

    shown: tuple[ShownExample, ...]
    target: int
    hard: Example
    """The intruder, or the one that the activating one is to be told from."""
    quantile: int | None
    tie_order: tuple[int, ...]
    """The first in this order is chosen among examples that are preferred alike."""


async def ask_choices(
    judge: Judge, explanation: str | None, questions: Sequence[ChoiceQuestion], task: ChoiceTask
) -> tuple[tuple[ChoiceTrial, ...], Usage]:
    """Put every question to the judge, all at once; trials in the order of the questions."""
    answers = await asyncio.gather(*(_answer(judge, explanation, question, task) for question in questions))
    trials = [_trial(question, answer, task) for question, (answer, _) in zip(questions, answers, strict=True)]
    return tuple(trials), sum((usage for _, usage in answers), Usage())


def placed(right: ShownExample, others: Sequence[ShownExample], place: int) -> tuple[ShownExample, ...]:
    """The right answer at its place among the others."""
    return (*others[:place], right, *others[place:])


def unasked(reason: Failure, n_choices: int, source: ExampleSource) -> ChoiceTrial:
    """The one trial of a feature about which no question can be made."""
    return ChoiceTrial(0, None, n_choices, source, None, NO_DOCUMENT, reason)


def tie_order(n: int, rng: np.random.Generator) -> tuple[int, ...]:
    """A random order of `n` places."""
    return tuple(int(i) for i in rng.permutation(n))


async def _answer(
    judge: Judge, explanation: str | None, question: ChoiceQuestion, task: ChoiceTask
) -> tuple[Sequence[float] | Failure, Usage]:
    if not all(shown.str_tokens for shown in question.shown):
        return NO_TEXT, Usage()
    if isinstance(judge, Chooser):
        return await judge.choose(explanation, question.shown, task)
    if explanation is None:
        reason = f"{judge.name} judges whether an explanation fits and cannot compare examples; take another judge"
        return Failure("score", "cannot_compare", reason), Usage()
    verdicts, usage = await judge.judge(explanation, question.shown, VERDICT_TASKS[task])
    failed = next((verdict for verdict in verdicts if isinstance(verdict, Failure)), None)
    if failed is not None:
        return failed, usage
    sign = 1 if task == "discrimination" else -1
    return [sign * _fit(verdict) for verdict in verdicts if isinstance(verdict, Verdict)], usage


def _fit(verdict: Verdict) -> float:
    return float(verdict.matches) if verdict.probability is None else verdict.probability


def _trial(question: ChoiceQuestion, answer: Sequence[float] | Failure, task: ChoiceTask) -> ChoiceTrial:
    is_failure = isinstance(answer, Failure)
    return ChoiceTrial(
        target=question.target,
        chosen=None if is_failure else _largest(answer, question.tie_order),
        n_choices=len(question.shown),
        source=question.hard.source,
        quantile=question.quantile,
        document=question.hard.document,
        failure=_with_advice(answer, task) if isinstance(answer, Failure) else None,
    )


def _with_advice(failure: Failure, task: ChoiceTask) -> Failure:
    """The examples of a choice are compared, and so belong into one prompt."""
    return named_setting(failure, f"scorers.{task}.n_choices") if failure.kind == TOO_LONG else failure


def _largest(preferences: Sequence[float], tie_order: Sequence[int]) -> int:
    assert len(preferences) == len(tie_order), (preferences, tie_order)
    return max(tie_order, key=lambda place: preferences[place])
