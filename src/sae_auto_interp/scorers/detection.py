"""Detection: can a judge who reads the explanation tell which windows the feature fires in? Chance is 0.5.

Windows are shown without marks (arXiv 2410.13928, section 3.3.1). The original library called it recall.
"""

from dataclasses import dataclass
from typing import ClassVar

from sae_auto_interp.protocols import Judge
from sae_auto_interp.scorers._questions import Question, ask, check_n_shown
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Explanation, FeatureRecord, Score, ShownExample


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionScorer:
    """Every test example once: activating ones should match, silent ones should not."""

    name: ClassVar[str] = "detection"
    task: ClassVar[str] = "detection"

    judge: Judge
    n_shown: int = 5
    """Windows per prompt. 1 is the reference, 5 costs a fifth."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_n_shown(self.name, self.n_shown)

    async def score(self, record: FeatureRecord, explanation: Explanation, explanation_id: str) -> Score:
        questions = [Question(ShownExample(e.str_tokens), True, e) for e in record.test]
        questions += [Question(ShownExample(e.str_tokens), False, e) for e in record.non_activating.test]
        rng = derived_rng(self.seed, "detection.order", record.feature)
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


RecallScorer = DetectionScorer
