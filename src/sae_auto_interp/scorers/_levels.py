"""Levels: how strongly a feature is said to fire on a token, from 0 (silent) to 10 (as strong as it gets).

A model's distribution over the strings "0" to "10" becomes its mean (S. Bills et al., Language models can explain
neurons, 2023): sum of k * p_k over the sum of p_k. Only exactly these strings count, so " 7" and "foo" do not. A
tokenizer that splits numbers into digits has no token "10", and what it puts on "1" is for both: give such models
levels up to 9.
"""

import math
from collections.abc import Mapping

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.types import Failure, as_logprob

MAX_LEVEL = 10
_ESCAPES = str.maketrans({"\n": "\\n", "\t": "\\t", "\r": "\\r"})


def expected_level(probabilities: Mapping[str, float], max_level: int = MAX_LEVEL) -> float | None:
    """Mean level under the probabilities of some strings; None where no level is among them.

    >>> round(expected_level({"0": 0.5, "10": 0.25, "x": 0.25}), 3)
    3.333
    """
    weights = {level: probabilities.get(str(level), 0.0) for level in range(max_level + 1)}
    total = sum(weights.values())
    return sum(level * weight for level, weight in weights.items()) / total if total > 0 else None


def level_of(alternatives: Mapping[str, float], max_level: int, where: str) -> float | Failure:
    """`expected_level` from natural-log probabilities; `where` names the token for the message of a failure."""
    logprobs = {text: as_logprob(logprob) for text, logprob in alternatives.items()}
    if any(map(math.isnan, logprobs.values())):
        return Failure("score", "no_logprobs", f"what may follow {where} has numbers that are no log-probabilities")
    level = expected_level({text: math.exp(logprob) for text, logprob in logprobs.items()}, max_level)
    if level is not None:
        return level
    listed = ", ".join(repr(text) for text in list(alternatives)[:5])
    return Failure("score", "no_level", f"no number from 0 to {max_level} is among what may follow {where}: {listed}")


def one_line(text: str) -> str:
    """Line breaks and tabs as escapes: they would break a form of one token per line."""
    return text.translate(_ESCAPES)


def check_max_level(scorer: str, max_level: int) -> None:
    """Raise `ConfigError` for levels that no prompt is written for."""
    if max_level not in (MAX_LEVEL - 1, MAX_LEVEL):
        raise ConfigError(f"scorers.{scorer}.max_level={max_level}; give 9 or 10")
