"""Which tokens of an example are marked, and how marks look in a prompt.

Marks are drawn around maximal runs of tokens. Text from a corpus may itself hold `<<`; instead of escaping it, which
would change the text, delimiters are chosen that occur in none of the texts shown: taking them out of a marked
text gives back exactly the text.
"""

from collections.abc import Iterable, Sequence
from itertools import count

import numpy as np
from jaxtyping import Bool, Float

from sae_auto_interp.types import Array

PREFERRED_DELIMITERS = (("<<", ">>"), ("[[", "]]"), ("{{", "}}"), ("«", "»"), ("⟦", "⟧"))


def highlighted_tokens(
    activations: Float[Array, " window"], fraction: float, *, inclusive: bool = False
) -> Bool[Array, " window"]:
    """Tokens above `fraction` of the window's maximum (at or above it when `inclusive`); never a silent token."""
    least = fraction * float(activations.max(initial=0.0))
    return (activations > 0) & (activations >= least if inclusive else activations > least)


def choose_delimiters(texts: Iterable[str]) -> tuple[str, str]:
    """The first pair of marks that occurs in none of the texts."""
    joined = "\n".join(texts)
    for opening, closing in PREFERRED_DELIMITERS:
        if opening not in joined and closing not in joined:
            return opening, closing
    numbered = ((f"<mark{i}>", f"</mark{i}>") for i in count(1))
    return next(pair for pair in numbered if pair[0] not in joined and pair[1] not in joined)


def marked_text(str_tokens: Sequence[str], marked: Iterable[bool], delimiters: tuple[str, str]) -> str:
    """The text with each maximal run of marked tokens between the delimiters.

    A token without text (the first bytes of a character, as `Vocabulary.str_tokens` has them) hands its mark to the
    next one that has some, so that no mark stands around nothing.

    >>> marked_text(["a", " b", " c", " d"], [False, True, True, False], ("<<", ">>"))
    'a<< b c>> d'
    """
    opening, closing = delimiters
    pieces: list[str] = []
    is_open = pending = False
    for token, is_marked in zip(str_tokens, marked, strict=True):
        pending = pending or bool(is_marked)
        if not token:
            continue
        if pending != is_open:
            pieces.append(opening if pending else closing)
            is_open = pending
        pieces.append(token)
        pending = False
    return "".join([*pieces, closing] if is_open else pieces)


def normalised_activations(activations: Float[Array, " window"], largest: float) -> list[int]:
    """Integers 0..10, as OpenAI's neuron-explainer discretises: `floor(10 * relu(a) / largest)`, at most 10.

    All are 0 where `largest` is not above 0.

    >>> normalised_activations(np.array([-1, 0, .4, .5, 1, 3.99, 4]), 4)
    [0, 0, 1, 1, 2, 9, 10]
    """
    if largest <= 0:
        return [0] * len(activations)
    scaled = np.floor(10 * np.maximum(activations, 0) / largest)
    return [int(value) for value in np.minimum(scaled, 10)]
