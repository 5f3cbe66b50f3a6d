"""Where marks are drawn, and whose marks a negative gets.

A judge must not be able to tell positives from negatives by the marks alone. So no mark of a negative is invented: it
has the marks of one positive, and both sides have the same ones, as far as their numbers allow.
"""

from collections.abc import Sequence
from typing import TypeAlias, cast

import numpy as np
from jaxtyping import Bool

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.prompting.highlights import highlighted_tokens
from sae_auto_interp.scorers._questions import Question
from sae_auto_interp.types import Array, Example, ShownExample

Mask: TypeAlias = tuple[bool, ...]


def check_threshold(scorer: str, threshold: float) -> None:
    """Raises `ConfigError` unless it is a fraction."""
    if not 0 <= threshold <= 1:
        raise ConfigError(f"scorers.{scorer}.threshold={threshold}; give a fraction from 0 to 1")


def strong_tokens(example: Example, threshold: float) -> Mask:
    """Tokens on which the feature fires, at or above a fraction of the window's maximum."""
    marked = highlighted_tokens(example.activations, threshold, inclusive=True)
    return tuple(marked.tolist())


def marked_question(example: Example, mask: Sequence[bool], target: bool) -> Question:
    return Question(ShownExample(example.str_tokens, fitted(mask, len(example.tokens))), target, example)


def fitted(mask: Sequence[bool], n_tokens: int) -> Mask:
    """A mask for a window of `n_tokens`; unchanged but for hand-built records, whose windows may differ in length.

    Marks beyond the end are wrapped around, so that there is always one where there was one.
    """
    if len(mask) == n_tokens:
        return tuple(mask)
    placed = [False] * n_tokens
    for position in np.flatnonzero(mask):
        placed[int(position) % n_tokens] = True
    return tuple(placed)


def spread(n_items: int, n: int, rng: np.random.Generator) -> list[int]:
    """`n` of the numbers below `n_items`, each used equally often up to one, in random order."""
    rounds = [rng.permutation(n_items) for _ in range(-(-n // n_items))]
    return [int(item) for chosen in rounds for item in chosen][:n]


def silent_places(
    examples: Sequence[Example], masks: Sequence[Mask], rng: np.random.Generator
) -> list[tuple[int, int]]:
    """(window, lender of its marks) such that no marked token of the window is one on which the feature fires.

    Every window is in at most one pair, and so are every window's marks: a random one of the largest such matchings.
    A window in which no other one's marks find silent tokens is in none.
    """
    from scipy import optimize  # it takes longer to load than all the rest of a scorer

    fits = np.array([[_all_silent(example, mask) for mask in masks] for example in examples], dtype=np.bool_)
    if fits.size == 0:
        return []
    costs = np.where(fits, rng.random(fits.shape), 1.0 + len(examples))  # one misfit costs more than all fits
    pairs = cast("tuple[Array, Array]", optimize.linear_sum_assignment(costs))
    return [(int(window), int(lender)) for window, lender in zip(*pairs, strict=True) if fits[window, lender]]


def _all_silent(example: Example, mask: Mask) -> bool:
    marked: Bool[Array, " window"] = np.array(fitted(mask, len(example.tokens)), dtype=np.bool_)
    return not bool((example.activations[marked] > 0).any())
