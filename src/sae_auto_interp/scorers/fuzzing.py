"""Fuzzing: are the marked tokens the ones that the explanation is about? Chance is 0.5.

Positives mark the tokens on which the feature fires strongly; negatives are silent windows with marks that mean
nothing (arXiv 2410.13928, section 3.3.2). A judge must not be able to tell them apart by the marks alone: every
negative copies the marks of one positive, so number, run lengths and positions have the same distribution.

Whether the explanation finds the token within a window is another question: `fuzzing_same_window` asks it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sae_auto_interp.protocols import Judge
from sae_auto_interp.scorers._marks import check_threshold, marked_question, spread, strong_tokens
from sae_auto_interp.scorers._questions import Question, ask, check_n_shown
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Example, Explanation, FeatureRecord, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class FuzzingScorer:
    """Marks at or above `threshold` of each window's maximum against copied marks on silent windows."""

    name: ClassVar[str] = "fuzzing"
    task: ClassVar[str] = "fuzzing"

    judge: Judge
    n_shown: int = 5
    """Windows per prompt."""
    threshold: float = 0.3
    """Fraction of a window's maximum from which a token is marked."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_n_shown(self.name, self.n_shown)
        check_threshold(self.name, self.threshold)

    async def score(self, record: FeatureRecord, explanation: Explanation, explanation_id: str) -> Score:
        rng = derived_rng(self.seed, "fuzzing.marks", record.feature)
        questions = self._questions(record.test, record.non_activating.test, rng)
        answers = await ask(self.judge, explanation.text, questions, self.task, self.n_shown, rng)
        return Score(
            record.feature,
            self.name,
            explanation_id,
            "classification",
            answers.trials,
            answers.usage,
            n_split=answers.n_split,
        )

    def _questions(
        self, activating: Sequence[Example], silent: Sequence[Example], rng: np.random.Generator
    ) -> list[Question]:
        masks = [strong_tokens(example, self.threshold) for example in activating]
        if not masks:  # then there are no marks to copy, and nothing to ask
            return []
        lenders = spread(len(masks), len(silent), rng)
        positives = [marked_question(e, mask, True) for e, mask in zip(activating, masks, strict=True)]
        return positives + [marked_question(e, masks[m], False) for e, m in zip(silent, lenders, strict=True)]
