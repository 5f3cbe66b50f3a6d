"""Questions put to a judge in batches, and the trials that come of them.

All questions of a feature are shuffled before they are batched, so the number of activating examples in a batch
varies at random and tells a judge nothing. The last batch may be short; it counts like any other. A batch that is too
long for the judge's context is halved until it fits, unless its questions belong together.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sae_auto_interp.errors import ConfigError, PromptTooLongError
from sae_auto_interp.protocols import Judge
from sae_auto_interp.types import Example, Failure, ShownExample, Trial, Usage, Verdict

TOO_LONG = PromptTooLongError.kind
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


@dataclass(frozen=True, slots=True)
class Answers:
    """What came of the questions of a score."""

    trials: tuple[Trial, ...]
    usage: Usage
    n_split: int
    """Batches that were too long, and were halved."""


async def ask(
    judge: Judge,
    explanation: str,
    questions: Sequence[Question],
    task: str,
    n_shown: int,
    rng: np.random.Generator,
    *,
    together: str | None = None,
) -> Answers:
    """Put every question to the judge, `n_shown` at a time, all batches at once; trials in shuffled order.

    A question that cannot be asked is a failed trial; they come first. `together` names the settings that say how many
    questions there are, where the task needs all of a batch in one prompt: such a batch is not halved.
    """
    shuffled = [questions[int(i)] for i in rng.permutation(len(questions))]
    askable = [question for question in shuffled if question.failure is None]
    batches = [askable[i : i + n_shown] for i in range(0, len(askable), n_shown)]
    advice = together or "features.window"
    answers = await asyncio.gather(
        *(_ask_batch(judge, explanation, batch, task, advice, may_split=together is None) for batch in batches)
    )
    trials = [_trial(question, question.failure) for question in shuffled if question.failure is not None]
    for batch, (verdicts, _, _) in zip(batches, answers, strict=True):
        trials += [_trial(question, verdict) for question, verdict in zip(batch, verdicts, strict=True)]
    usage = sum((usage for _, usage, _ in answers), Usage())
    return Answers(tuple(trials), usage, sum(n_split for _, _, n_split in answers))


def named_setting(failure: Failure, settings: str) -> Failure:
    """The failure of a prompt that is too long, with what to lower."""
    return replace(failure, message=f"{failure.message}; lower {settings}, or serve the judge with a longer context")


def check_n_shown(scorer: str, n_shown: int) -> None:
    """Raises `ConfigError` unless a prompt has room for an example."""
    if n_shown < 1:
        raise ConfigError(f"scorers.{scorer}.n_shown={n_shown}; give at least 1")


async def _ask_batch(
    judge: Judge, explanation: str, batch: Sequence[Question], task: str, advice: str, *, may_split: bool
) -> tuple[list[Verdict | Failure], Usage, int]:
    """Verdicts on a batch, what they cost, and how many prompts were too long and were halved."""
    verdicts, usage = await judge.judge(explanation, [question.shown for question in batch], task)
    assert len(verdicts) == len(batch), f"judge {judge.name} gave {len(verdicts)} verdicts on {len(batch)} examples"
    if not all(isinstance(verdict, Failure) and verdict.kind == TOO_LONG for verdict in verdicts):
        return verdicts, usage, 0
    if not may_split or len(batch) == 1:
        return [named_setting(v, advice) for v in verdicts if isinstance(v, Failure)], usage, 0
    middle = (len(batch) + 1) // 2
    halves = await asyncio.gather(
        *(
            _ask_batch(judge, explanation, half, task, advice, may_split=True)
            for half in (batch[:middle], batch[middle:])
        )
    )
    return (
        [verdict for half, _, _ in halves for verdict in half],
        sum((spent for _, spent, _ in halves), usage),
        1 + sum(n for _, _, n in halves),
    )


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
