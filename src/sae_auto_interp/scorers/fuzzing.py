"""Fuzzing: are the marked tokens the ones that the explanation is about? Chance is 0.5.

Positives mark the tokens on which the feature fires strongly; negatives are silent windows with marks that mean
nothing (arXiv 2410.13928, section 3.3.2). A judge must not be able to tell them apart by the marks alone: every
negative copies the marks of one positive, so number, run lengths and positions have the same distribution.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sae_auto_interp.highlights import highlighted_tokens
from sae_auto_interp.protocols import Judge
from sae_auto_interp.scorers._questions import Question, ask
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Example, Explanation, FeatureRecord, Score, ShownExample


@dataclass(frozen=True, slots=True, kw_only=True)
class FuzzingScorer:
    """Marks at or above `threshold` of each window's maximum against copied marks on silent windows."""

    name: ClassVar[str] = "fuzzing"

    judge: Judge
    n_shown: int = 5
    """Windows per prompt."""
    threshold: float = 0.3
    """Fraction of a window's maximum from which a token is marked."""
    seed: int = 0

    async def score(self, record: FeatureRecord, explanation: Explanation, explanation_id: str) -> Score:
        rng = derived_rng(self.seed, "fuzzing.marks", record.feature)
        questions = self._questions(record.test, record.non_activating.test, rng)
        trials, usage = await ask(self.judge, explanation.text, questions, self.name, self.n_shown, rng)
        return Score(record.feature, self.name, explanation_id, "classification", trials, usage)

    def _questions(
        self, activating: Sequence[Example], silent: Sequence[Example], rng: np.random.Generator
    ) -> list[Question]:
        masks = [self._mask(example) for example in activating]
        positives = [Question(ShownExample(e.str_tokens, m), True, e) for e, m in zip(activating, masks, strict=True)]
        donors = _spread(len(masks), len(silent), rng)
        negatives = [
            Question(ShownExample(e.str_tokens, masks[d]), False, e) for e, d in zip(silent, donors, strict=True)
        ]
        return positives + negatives

    def _mask(self, example: Example) -> tuple[bool, ...]:
        marked = highlighted_tokens(example.activations, self.threshold, inclusive=True)
        return tuple(bool(value) for value in marked)


def _spread(n_donors: int, n: int, rng: np.random.Generator) -> list[int]:
    """`n` donors, each used equally often up to one, in random order."""
    rounds = [rng.permutation(n_donors) for _ in range(-(-n // n_donors))] if n_donors else []
    return [int(donor) for donor in np.concatenate(rounds)[:n]] if rounds else []
