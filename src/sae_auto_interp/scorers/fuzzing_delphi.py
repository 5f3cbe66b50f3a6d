"""Fuzzing as delphi does it (0.1.3), to reproduce or compare its figures. Chance is not 0.5: its marks give it away.

Positives mark tokens from 0.3 of the window's maximum. Negatives mark n tokens, n the mean number of tokens above zero
over the positives, rounded up: more than the positives have, drawn at random but for one that is always marked, a
quarter before the end of the window, where centred windows have their peak. Whoever counts marks, or looks at that
token, is right without the explanation (docs/methods/fuzzing.md has figures). `fuzzing` has neither leak.

Two things are not reproduced: delphi seeds its generator anew for every window, so that all negatives of a length have
the same marks, and it shows all marks where n is 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from sae_auto_interp.protocols import Judge
from sae_auto_interp.scorers._marks import Mask, check_threshold, marked_question, strong_tokens
from sae_auto_interp.scorers._questions import Question, ask, check_n_shown
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Example, Explanation, FeatureRecord, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class FuzzingDelphiScorer:
    """delphi's fuzzing of silent windows, or with `negatives: active` of the activating ones."""

    name: ClassVar[str] = "fuzzing_delphi"
    task: ClassVar[str] = "fuzzing"

    judge: Judge
    negatives: Literal["silent", "active"] = "silent"
    """Windows with wrong marks: silent ones, or the activating ones with marks on silent tokens."""
    n_shown: int = 5
    """Windows per prompt."""
    threshold: float = 0.3
    """Fraction of a window's maximum from which a token is marked."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_n_shown(self.name, self.n_shown)
        check_threshold(self.name, self.threshold)

    async def score(self, record: FeatureRecord, explanation: Explanation, explanation_id: str) -> Score:
        rng = derived_rng(self.seed, "fuzzing_delphi.marks", record.feature)
        positives = [marked_question(e, strong_tokens(e, self.threshold), True) for e in record.test]
        questions = positives + self._negatives(record, rng)
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

    def _negatives(self, record: FeatureRecord, rng: np.random.Generator) -> list[Question]:
        n_marks = _mean_count(record.test)
        if self.negatives == "silent":
            return [marked_question(e, _random_marks(e, n_marks, rng), False) for e in record.non_activating.test]
        active = [replace(example, source="same_window") for example in record.test]
        return [marked_question(e, _random_marks(e, n_marks, rng), False) for e in active]


def _mean_count(examples: Sequence[Example]) -> int:
    """Mean number of tokens on which the feature fires at all, rounded up; at least one is marked."""
    counts = [int((example.activations > 0).sum()) for example in examples]
    return max(1, math.ceil(float(np.mean(counts)))) if counts else 1


def _random_marks(example: Example, n_marks: int, rng: np.random.Generator) -> Mask:
    """The token a quarter before the end, where it is silent, and others that are, up to `n_marks`."""
    silent = np.flatnonzero(example.activations <= 0)
    usual = len(example.tokens) - len(example.tokens) // 4
    chosen = {usual} & {int(i) for i in silent}
    for position in rng.permutation(silent):
        if len(chosen) < n_marks:
            chosen.add(int(position))
    return tuple(i in chosen for i in range(len(example.tokens)))
