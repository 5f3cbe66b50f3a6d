"""SAEBench's autointerp evaluation, to reproduce or compare its figures. Its accuracy has no chance level of 0.5.

Of one feature: its 2 strongest test windows, 2 drawn from the others by the square of their maximum, and 10 silent
ones, shuffled, without marks, in one prompt that is answered by a list of numbers (A. Karvonen et al., arXiv
2503.09532). What SAEBench reports is plain accuracy (`metrics.accuracy`); a judge who answers "None" has
10 / 14 = .714, and balanced accuracy and MCC say what is behind it.

Kept as it is there: the number of firing windows is the same every time, and the prompt's example lists as many.
Not kept: silent windows are verified here (SAEBench labels random ones silent unseen, which caps a perfect judge at
.864 for a feature with a density of 1 %), a reply that cannot be read is a counted failure, and no document is in both
explanation and score. SAEBench's windows have 21 tokens: features.window=21, windows=centred.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float64

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.protocols import Judge
from sae_auto_interp.scorers._questions import Question, ask
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Array, Example, Explanation, FeatureRecord, Score, ShownExample


@dataclass(frozen=True, slots=True, kw_only=True)
class SaebenchScorer:
    """One prompt per feature; fewer windows where the record has fewer."""

    name: ClassVar[str] = "saebench"
    task: ClassVar[str] = "saebench"

    judge: Judge
    n_top: int = 2
    n_by_importance: int = 2
    n_silent: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_top", "n_by_importance", "n_silent"):
            if getattr(self, name) < 0:
                raise ConfigError(f"scorers.{self.name}.{name}={getattr(self, name)}; give at least 0")
        if self.n_top + self.n_by_importance + self.n_silent < 1:
            raise ConfigError(f"scorers.{self.name} shows no window; raise n_top, n_by_importance or n_silent")

    async def score(self, record: FeatureRecord, explanation: Explanation, explanation_id: str) -> Score:
        rng = derived_rng(self.seed, "saebench", record.feature)
        questions = [_question(e, True) for e in self._activating(record.test, rng)]
        questions += [_question(e, False) for e in _drawn(record.non_activating.test, self.n_silent, rng)]
        settings = ", ".join(f"scorers.{self.name}.{name}" for name in ("n_silent", "n_top", "n_by_importance"))
        answers = await ask(
            self.judge, explanation.text, questions, self.task, len(questions) or 1, rng, together=settings
        )
        return Score(
            record.feature,
            self.name,
            explanation_id,
            "classification",
            answers.trials,
            answers.usage,
            n_split=answers.n_split,
        )

    def _activating(self, examples: Sequence[Example], rng: np.random.Generator) -> list[Example]:
        ordered = sorted(examples, key=lambda example: -example.max_activation)
        top, others = ordered[: self.n_top], ordered[self.n_top :]
        weights = np.array([example.max_activation for example in others]) ** 2
        return top + _drawn(others, self.n_by_importance, rng, weights)


def _drawn(
    examples: Sequence[Example], n: int, rng: np.random.Generator, weights: Float64[Array, " n"] | None = None
) -> list[Example]:
    """`n` examples, or all, without replacement; with the probability of each proportional to its weight."""
    if not examples:
        return []
    p = None if weights is None else weights / weights.sum()
    return [examples[int(i)] for i in rng.choice(len(examples), min(n, len(examples)), replace=False, p=p)]


def _question(example: Example, target: bool) -> Question:
    return Question(ShownExample(example.str_tokens), target, example)
