"""How sure a model was of each 0 or 1 that it wrote: from the log-probabilities of the tokens at those places.

p = P(1) / (P(0) + P(1)) over the alternatives that the server lists at a verdict's token; delphi does so too.
Spaces, brackets and commas that a tokenizer glues to a digit are taken off first; a label that is not listed beside the
other counts as 0. There is no probability where the server lists neither label or gives no log-probabilities, or
where its tokens are not those of the reply (as when a server leaves out what was thought).
"""

import math
from collections.abc import Sequence

from sae_auto_interp.types import TokenLogprob

_AROUND = " \t\n[],\"'"


def verdict_probabilities(
    reply: str, tokens: Sequence[TokenLogprob] | None, offsets: Sequence[int]
) -> list[float | None]:
    """P(1) at each character offset of the reply at which a verdict stands.

    >>> listed = [("[", {}), ("1", {"1": -.1, "0": -2.4}), (",", {}), ("0", {"0": -.2, "1": -1.8}), ("]", {})]
    >>> tokens = [TokenLogprob(token, -.1, alternatives) for token, alternatives in listed]
    >>> [round(p, 4) for p in verdict_probabilities('[1,0]', tokens, [1, 3])]
    [0.9089, 0.168]
    """
    if tokens is None or "".join(token.token for token in tokens) != reply:
        return [None] * len(offsets)
    return [_probability(_token_at(tokens, offset)) for offset in offsets]


def _token_at(tokens: Sequence[TokenLogprob], offset: int) -> TokenLogprob | None:
    end = 0
    for token in tokens:
        end += len(token.token)
        if offset < end:
            return token
    return None


def _probability(token: TokenLogprob | None) -> float | None:
    if token is None:
        return None
    weights = {"0": 0.0, "1": 0.0}
    for text, logprob in (token.alternatives or {token.token: token.logprob}).items():
        label = text.strip(_AROUND)
        if label in weights:
            weights[label] += math.exp(logprob)
    total = weights["0"] + weights["1"]
    return weights["1"] / total if total > 0 else None
