"""Intruder detection: do windows in which the feature fires have something in common? Chance is 1 / n_choices.

A judge sees marked windows of one quantile and one intruder, and says which one does not belong (arXiv 2507.08473). No
explanation is read: this is about the feature, not about what was said of it, and it bounds what any explanation of
the kind can do. `intruder_explained` asks the same with the explanation.
"""

from dataclasses import dataclass
from typing import ClassVar

from sae_auto_interp.protocols import Judge
from sae_auto_interp.scorers._choosing import ChoiceTask, ask_choices, unasked
from sae_auto_interp.scorers._intruders import IntruderDesign, Intruders
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Explanation, Failure, FeatureRecord, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class IntruderScorer:
    """One request per question; the judge must be able to compare windows."""

    name: ClassVar[str] = "intruder"
    task: ClassVar[ChoiceTask] = "intruder"
    reads_explanation: ClassVar[bool] = False

    judge: Judge
    n_trials: int = 50
    """Questions per feature. At chance 1/5, p < .05 takes 16 right ones of 50."""
    n_choices: int = 5
    """Windows per question, the intruder among them."""
    intruders: Intruders = "silent"
    """Silent windows, or windows of another quantile ("internal")."""
    threshold: float = 0.3
    """Fraction of a window's maximum from which a token is marked."""
    seed: int = 0

    def __post_init__(self) -> None:
        self._design.check(self.name)

    @property
    def _design(self) -> IntruderDesign:
        return IntruderDesign(
            n_trials=self.n_trials, n_choices=self.n_choices, threshold=self.threshold, intruders=self.intruders
        )

    async def score(self, record: FeatureRecord, explanation: Explanation, explanation_id: str) -> Score:
        questions = self._design.questions(record, derived_rng(self.seed, "intruder", record.feature))
        if isinstance(questions, Failure):
            trial = unasked(questions, self.n_choices, "random")
            return Score(record.feature, self.name, explanation_id, "choice", (), choices=(trial,))
        told = explanation.text if self.reads_explanation else None
        choices, usage = await ask_choices(self.judge, told, questions, self.task)
        return Score(record.feature, self.name, explanation_id, "choice", (), usage, choices=choices)
