"""Fuzzing: are the marked tokens the ones that the explanation is about? Chance is 0.5.

Positives mark the tokens on which the feature fires strongly; negatives are silent windows with marks that mean
nothing (arXiv 2410.13928, section 3.3.2). A judge must not be able to tell them apart by the marks alone: every
negative copies the marks of one positive, so number, run lengths and positions have the same distribution.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.highlights import highlighted_tokens
from sae_auto_interp.protocols import Judge
from sae_auto_interp.scorers._questions import Question, ask, check_n_shown
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

    def __post_init__(self) -> None:
        check_n_shown(self.name, self.n_shown)
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"scorers.fuzzing.threshold={self.threshold}; give a fraction from 0 to 1")

    async def score(self, record: FeatureRecord, explanation: Explanation, explanation_id: str) -> Score:
        rng = derived_rng(self.seed, "fuzzing.marks", record.feature)
        questions = self._questions(record.test, record.non_activating.test, rng)
        trials, usage = await ask(self.judge, explanation.text, questions, self.name, self.n_shown, rng)
        return Score(record.feature, self.name, explanation_id, "classification", trials, usage)

    def _questions(
        self, activating: Sequence[Example], silent: Sequence[Example], rng: np.random.Generator
    ) -> list[Question]:
        masks = [self._mask(example) for example in activating]
        if not masks:  # then there are no marks to copy, and nothing to ask
            return []
        donors = _spread(len(masks), len(silent), rng)
        positives = [_question(e, mask, True) for e, mask in zip(activating, masks, strict=True)]
        return positives + [_question(e, masks[d], False) for e, d in zip(silent, donors, strict=True)]

    def _mask(self, example: Example) -> tuple[bool, ...]:
        marked = highlighted_tokens(example.activations, self.threshold, inclusive=True)
        return tuple(bool(value) for value in marked)


def _question(example: Example, mask: Sequence[bool], target: bool) -> Question:
    return Question(ShownExample(example.str_tokens, _fitted(mask, len(example.tokens))), target, example)


def _fitted(mask: Sequence[bool], n_tokens: int) -> tuple[bool, ...]:
    """A mask for a window of `n_tokens`; unchanged but for hand-built records, whose windows may differ in length.

    Marks beyond the end are wrapped around, so that there is always one where there was one.
    """
    fitted = [False] * n_tokens
    for position in np.flatnonzero(mask):
        fitted[int(position) % n_tokens] = True
    return tuple(fitted)


def _spread(n_donors: int, n: int, rng: np.random.Generator) -> list[int]:
    """`n` donors, each used equally often up to one, in random order."""
    rounds = [rng.permutation(n_donors) for _ in range(-(-n // n_donors))]
    return [int(donor) for chosen in rounds for donor in chosen][:n]
