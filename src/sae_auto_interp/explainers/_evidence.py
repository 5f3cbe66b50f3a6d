"""What explainers show of a record: some of its examples, from the strongest to the weakest, as text."""

from collections.abc import Sequence

import numpy as np

from sae_auto_interp.prompting.highlights import highlighted_tokens, marked_text
from sae_auto_interp.types import Example


def strongest_first(examples: Sequence[Example], n: int) -> list[Example]:
    """At most `n` examples, evenly from the strongest to the weakest."""
    ordered = sorted(examples, key=lambda example: -example.max_activation)
    chosen = np.unique(np.linspace(0, len(ordered) - 1, min(n, len(ordered))).round().astype(int))
    return [ordered[i] for i in chosen]


def marked(example: Example, threshold: float, delimiters: tuple[str, str]) -> str:
    """The example's text with marks on tokens above `threshold` of its maximum."""
    fires: list[bool] = highlighted_tokens(example.activations, threshold).tolist()
    return marked_text(example.str_tokens, fires, delimiters)


def peak(example: Example) -> int:
    """Where the feature is strongest; of equal activations the first."""
    return int(example.activations.argmax())


def without_text(examples: Sequence[Example]) -> bool:
    """Whether an example carries no strings: a record of a cache without a vocabulary cannot be shown."""
    return not all(example.str_tokens for example in examples)
