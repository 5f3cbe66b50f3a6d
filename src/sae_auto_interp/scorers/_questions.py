"""Questions put to a judge in batches, and the trials that come of them.

All questions of a feature are shuffled before they are batched, so the number of activating examples in a batch
varies at random and tells a judge nothing. The last batch may be short; it counts like any other.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.protocols import Judge
from sae_auto_interp.types import Example, Failure, ShownExample, Trial, Usage, Verdict

NO_TEXT = Failure(
    "score", "no_text", "the example carries no strings; cache with a tokenizer, or give the loader a vocabulary"
)


@dataclass(frozen=True, slots=True)
class Question:
    """One example as the judge sees it, with the truth that the judge does not see."""

    shown: ShownExample
    target: bool
    example: Example
    unaskable: Failure | None = None
    """Why no judge is asked: the trial is this failure."""

    @property
    def failure(self) -> Failure | None:
        return self.unaskable or (None if self.shown.str_tokens else NO_TEXT)


async def ask(
    judge: Judge, explanation: str, questions: Sequence[Question], task: str, n_shown: int, rng: np.random.Generator
) -> tuple[tuple[Trial, ...], Usage]:
    """Put every question to the judge, `n_shown` at a time, all batches at once; trials in shuffled order.

    A question that cannot be asked is a failed trial; they come first.
    """
    shuffled = [questions[int(i)] for i in rng.permutation(len(questions))]
    askable = [question for question in shuffled if question.failure is None]
    batches = [askable[i : i + n_shown] for i in range(0, len(askable), n_shown)]
    answers = await asyncio.gather(*(_ask_batch(judge, explanation, batch, task) for batch in batches))
    trials = [_trial(question, question.failure) for question in shuffled if question.failure is not None]
    for batch, (verdicts, _) in zip(batches, answers, strict=True):
        trials += [_trial(question, verdict) for question, verdict in zip(batch, verdicts, strict=True)]
    return tuple(trials), sum((usage for _, usage in answers), Usage())


def check_n_shown(scorer: str, n_shown: int) -> None:
    """Raises `ConfigError` unless a prompt has room for an example."""
    if n_shown < 1:
        raise ConfigError(f"scorers.{scorer}.n_shown={n_shown}; give at least 1")


async def _ask_batch(
    judge: Judge, explanation: str, batch: Sequence[Question], task: str
) -> tuple[list[Verdict | Failure], Usage]:
    verdicts, usage = await judge.judge(explanation, [question.shown for question in batch], task)
    assert len(verdicts) == len(batch), f"judge {judge.name} gave {len(verdicts)} verdicts on {len(batch)} examples"
    return verdicts, usage


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
