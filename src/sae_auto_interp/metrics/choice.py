"""Metrics of forced choices: how often was the right one of k examples picked?

In: a score of kind `choice`. Chance is 1 / k and is stored with every trial, so that a table can always show it. A
choice cannot be helped by knowing the base rate, or by saying yes to everything.

Interval: Wilson over trials taken as independent. Test: the exact upper tail of the number of right choices under
guessing, a Poisson-binomial where trials offered different numbers of examples (Y. H. Wang, Statistica Sinica 3 (1993)
295), the binomial where they did not.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from sae_auto_interp.errors import InputError
from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL, wilson
from sae_auto_interp.metrics.significance import Significance
from sae_auto_interp.types import Array, ChoiceTrial, Estimate, Score

_NO_CHOICE = "no choice was made"
_SKILL_METHOD = "Wilson, rescaled so that chance is 0"
_TEST_METHOD = "exact test against guessing, one-sided"


def choice_accuracy(score: Score, level: float = DEFAULT_LEVEL) -> Estimate:
    """Share of right choices; `n` counts choices that were made. Raises InputError for a score of another kind."""
    return _accuracy(check_choice(score), level)


def choice_accuracy_by_quantile(score: Score, level: float = DEFAULT_LEVEL) -> dict[int, Estimate]:
    """`choice_accuracy` of the trials of each activation quantile; 0 is the quantile of the strongest windows."""
    trials = check_choice(score)
    quantiles = sorted({t.quantile for t in trials if t.quantile is not None})
    return {q: _accuracy([t for t in trials if t.quantile == q], level) for q in quantiles}


def choice_chance(score: Score) -> Estimate:
    """Share of right choices that guessing is expected to have, over the choices that were made; it has no interval."""
    made = [t for t in check_choice(score) if t.chosen is not None]
    n_failed = len(score.choices) - len(made)
    if not made:
        return Estimate(None, None, None, DEFAULT_LEVEL, "exact", 0, n_failed, _NO_CHOICE)
    chance = math.fsum(_chances(made)) / len(made)  # of equal numbers exactly that number, as a plain sum is not
    return Estimate(chance, None, None, DEFAULT_LEVEL, "exact", len(made), n_failed)


def choice_skill(score: Score, level: float = DEFAULT_LEVEL) -> Estimate:
    """(accuracy - chance) / (1 - chance): 0 for guessing, 1 for always right; comparable between numbers of choices."""
    accuracy, chance = choice_accuracy(score, level), choice_chance(score).value
    if chance is None or chance >= 1:
        reason = accuracy.reason or "only one example was offered: nothing to choose"
        return Estimate(None, None, None, level, _SKILL_METHOD, accuracy.n, accuracy.n_failed, reason)

    def rescaled(share: float | None) -> float | None:
        return None if share is None else (share - chance) / (1 - chance)

    value, low, high = map(rescaled, (accuracy.value, accuracy.low, accuracy.high))
    return Estimate(value, low, high, level, _SKILL_METHOD, accuracy.n, accuracy.n_failed)


def choice_test(score: Score) -> Significance:
    """P(at least this many right choices) by guessing. At chance .2, p < .05 takes 5 of 10, 8 of 20 or 16 of 50."""
    made = [t for t in check_choice(score) if t.chosen is not None]
    n_failed = len(score.choices) - len(made)
    if not made:
        return Significance(None, _TEST_METHOD, 0, n_failed, _NO_CHOICE)
    tail = _distribution(_chances(made))[_n_right(made) :].sum()
    return Significance(min(1.0, float(tail)), _TEST_METHOD, len(made), n_failed)


def check_choice(score: Score) -> Sequence[ChoiceTrial]:
    """The choices of a score; raises InputError for one of another kind."""
    if score.kind != "choice":
        raise InputError(f"score of {score.feature} by {score.scorer!r} is of kind {score.kind!r}, not choice")
    return score.choices


def _accuracy(trials: Sequence[ChoiceTrial], level: float) -> Estimate:
    made = [t for t in trials if t.chosen is not None]
    n_failed = len(trials) - len(made)
    if not made:
        return Estimate(None, None, None, level, "Wilson", 0, n_failed, _NO_CHOICE)
    interval = wilson(_n_right(made), len(made), level)
    return Estimate(_n_right(made) / len(made), interval.low, interval.high, level, "Wilson", len(made), n_failed)


def _n_right(made: Sequence[ChoiceTrial]) -> int:
    return sum(t.chosen == t.target for t in made)


def _chances(made: Sequence[ChoiceTrial]) -> Float64[Array, " n"]:
    return np.array([1 / t.n_choices for t in made])


def _distribution(chances: Float64[Array, " n"]) -> Float64[Array, " n_plus_1"]:
    """P(0), P(1), ... right choices, one trial folded in after the other."""
    total = np.ones(1)
    for chance in chances:
        total = np.convolve(total, [1 - chance, chance])
    return total
