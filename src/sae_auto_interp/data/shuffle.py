"""Items in a random order that depends on a generator alone, holding only some of them in memory."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def shuffled(items: Iterable[T], buffer: int, rng: np.random.Generator) -> Iterator[T]:
    """Each item once: any of the `buffer` that wait may come next, and the next item takes its place.

    So an item comes at most `buffer` - 1 places early; a buffer for all of them is a full shuffle.
    """
    waiting: list[T] = []
    for item in items:
        if len(waiting) < buffer:
            waiting.append(item)
            continue
        at = int(rng.integers(buffer))
        yield waiting[at]
        waiting[at] = item
    for at in rng.permutation(len(waiting)).tolist():
        yield waiting[at]
