"""Fuzzing within one window: does the explanation say which token? Chance is 0.5.

Every activating window is shown twice: with the marks where the feature fires, and with marks on tokens of the same
window where it is silent. A judge who only knows what the window is about is at chance; so is one who only looks at the
marks, since each window's wrong marks are another window's right ones: over all windows both sides have the same marks.

Marks can be moved only to where others have theirs. In windows that are centred on their peak that is where this one
fires too: nothing is left to ask. Moving them elsewhere would give them away by their place. Take windows on the grid.
delphi's "active" kind (see `fuzzing_delphi`) draws them at random.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from sae_auto_interp.protocols import Judge
from sae_auto_interp.scorers._marks import check_threshold, marked_question, silent_places, strong_tokens
from sae_auto_interp.scorers._questions import Question, ask, check_n_shown
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Example, Explanation, Failure, FeatureRecord, Score

NO_ROOM = Failure(
    "score",
    "no_room",
    "the marks of no other window fall on silent tokens of this one; the feature fires on too much of its windows, or "
    "they are centred: use features.windows=grid",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FuzzingSameWindowScorer:
    """Each activating window with its own marks, and with those of another one where it is silent."""

    name: ClassVar[str] = "fuzzing_same_window"
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
        rng = derived_rng(self.seed, "fuzzing_same_window.marks", record.feature)
        questions = self._questions(record.test, rng)
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

    def _questions(self, examples: Sequence[Example], rng: np.random.Generator) -> list[Question]:
        """What has no partner is a failure on both sides, so that those that remain have the same marks."""
        masks = [strong_tokens(example, self.threshold) for example in examples]
        lender_of = dict(silent_places(examples, masks, rng))
        lenders = set(lender_of.values())
        questions: list[Question] = []
        for i, example in enumerate(examples):
            right = marked_question(example, masks[i], True)
            questions.append(right if i in lenders else replace(right, unaskable=NO_ROOM))
            wrong = marked_question(replace(example, source="same_window"), masks[lender_of.get(i, i)], False)
            questions.append(wrong if i in lender_of else replace(wrong, unaskable=NO_ROOM))
        return questions
