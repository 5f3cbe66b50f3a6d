"""Discrimination: does the explanation fit this feature's windows better than those of features like it?

A judge sees windows side by side: one in which the feature fires, and windows in which a neighbour of it fires and it
does not. Which one does the explanation fit best? Chance is 1 / n_choices, and that is what two features with the same
explanation get, however well it fits both (after arXiv 2605.12874). With two windows, the share of right choices is
P(own window fits better), which `metrics.discrimination` estimates from single verdicts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.protocols import Judge
from sae_auto_interp.scorers._choosing import ChoiceQuestion, ChoiceTask, ask_choices, placed, tie_order, unasked
from sae_auto_interp.scorers._marks import spread
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Example, ExampleSource, Explanation, Failure, FeatureRecord, Score, ShownExample


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscriminationScorer:
    """Every activating test example once, beside near negatives drawn at random."""

    name: ClassVar[str] = "discrimination"
    task: ClassVar[ChoiceTask] = "discrimination"

    judge: Judge
    n_choices: int = 2
    """Windows per question, the activating one among them."""
    sources: tuple[ExampleSource, ...] = ("neighbour",)
    """Which silent test examples count as near."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_choices < 2:
            raise ConfigError(f"scorers.{self.name}.n_choices={self.n_choices}; give at least 2")

    async def score(self, record: FeatureRecord, explanation: Explanation, explanation_id: str) -> Score:
        near = [example for example in record.non_activating.test if example.source in self.sources]
        n_near = self.n_choices - 1
        if record.test and len(near) < n_near:
            trial = unasked(self._too_few(len(near)), self.n_choices, self.sources[0] if self.sources else "neighbour")
            return Score(record.feature, self.name, explanation_id, "choice", (), choices=(trial,))
        rng = derived_rng(self.seed, "discrimination", record.feature)
        questions = self._questions(record.test, near, rng) if record.test else []
        choices, usage = await ask_choices(self.judge, explanation.text, questions, self.task)
        return Score(record.feature, self.name, explanation_id, "choice", (), usage, choices=choices)

    def _questions(
        self, activating: Sequence[Example], near: Sequence[Example], rng: np.random.Generator
    ) -> list[ChoiceQuestion]:
        places = spread(self.n_choices, len(activating), rng)
        questions: list[ChoiceQuestion] = []
        for example, place in zip(activating, places, strict=True):
            others = [near[int(i)] for i in rng.choice(len(near), self.n_choices - 1, replace=False)]
            shown = placed(_plain(example), [_plain(other) for other in others], place)
            order = tie_order(self.n_choices, rng)
            questions.append(ChoiceQuestion(shown, place, others[0], example.quantile, order))
        return questions

    def _too_few(self, n: int) -> Failure:
        wanted = " or ".join(self.sources) or "no source"
        message = f"the record has {n} silent test examples of source {wanted}, too few for {self.n_choices} windows"
        advice = "ask for some, as in features.n_non_activating_test: {random: 25, neighbour: 25}"
        return Failure("score", "too_few_examples", f"{message}; {advice}")


def _plain(example: Example) -> ShownExample:
    return ShownExample(example.str_tokens)
