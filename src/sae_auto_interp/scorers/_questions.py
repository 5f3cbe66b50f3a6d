"""Questions put to a judge in batches, and the trials that come of them.

All questions of a feature are shuffled before they are batched, so the number of activating examples in a batch
varies at random and tells a judge nothing. The last batch may be short; it counts like any other.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sae_auto_interp.protocols import Judge
from sae_auto_interp.types import Example, Failure, ShownExample, Trial, Usage, Verdict


@dataclass(frozen=True, slots=True)
class Question:
    """One example as the judge sees it, with the truth that the judge does not see."""

    shown: ShownExample
    target: bool
    example: Example


async def ask(
    judge: Judge, explanation: str, questions: Sequence[Question], task: str, n_shown: int, rng: np.random.Generator
) -> tuple[tuple[Trial, ...], Usage]:
    """Put every question to the judge, `n_shown` at a time, all batches at once; trials in shuffled order."""
    shuffled = [questions[i] for i in rng.permutation(len(questions))]
    batches = [shuffled[i : i + n_shown] for i in range(0, len(shuffled), n_shown)]
    answers = await asyncio.gather(*(judge.judge(explanation, [q.shown for q in batch], task) for batch in batches))
    trials = [
        _trial(question, verdict)
        for batch, (verdicts, _) in zip(batches, answers, strict=True)
        for question, verdict in zip(batch, verdicts, strict=True)
    ]
    return tuple(trials), sum((usage for _, usage in answers), Usage())


def _trial(question: Question, verdict: Verdict | Failure) -> Trial:
    is_failure = isinstance(verdict, Failure)
    return Trial(
        target=question.target,
        prediction=None if is_failure else verdict.matches,
        confidence=None if is_failure else verdict.probability,
        source=question.example.source,
        quantile=question.example.quantile,
        document=question.example.document,
        failure=verdict if is_failure else None,
    )
