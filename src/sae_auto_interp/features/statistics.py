"""What a feature's firing counts say about it, without any model: density, position, tokens.

Pure functions on plain arrays, over many features at once; counts come from the cache. p-values are raw: over many
features adjust them (`metrics.benjamini_hochberg`).

Positions: the mutual information of firing and position (E. Voita et al., arXiv 2309.04827),

    I = 1/T sum_p [ f_p ln(f_p / f) + (1 - f_p) ln((1 - f_p) / (1 - f)) ]    in nats

with f_p the rate at position p and f their mean, is at most H(f) = -f ln f - (1 - f) ln(1 - f): .05 nats cannot be
reached below a density of .9 %. I / H(f), the share of the firing that position explains, can be compared between
features. G = 2 N I tests independence (N tokens; chi-squared with T - 1 degrees of freedom). BOS and other positions
without text must be left out: give 0 rows there.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Integer
from scipy import special

from sae_auto_interp.errors import InputError
from sae_auto_interp.types import Array


@dataclass(frozen=True, slots=True)
class PositionalInformation:
    """How much the position in the row tells about firing, per feature."""

    information_nats: Float64[Array, " features"]
    normalised: Float64[Array, " features"]
    """I / H(f), 0 to 1; 0 for a feature that never or always fires."""
    p_values: Float64[Array, " features"]
    """Of the G-test; 1 for a feature that never or always fires."""


def positional_information(
    counts: Integer[Array, "features ctx_len"], n_rows: Integer[Array, " ctx_len"]
) -> PositionalInformation:
    """From how often each feature fires at each position, and how many rows have text there.

    Positions weigh as much text as they have; with equally many rows everywhere this is the formula above. The
    chi-squared approximation wants a few expected firings per position: with fewer it is conservative or erratic, so
    ask for at least 5 T activations.
    """
    if (counts < 0).any() or (counts > n_rows).any():
        raise InputError("a feature fires at a position at most once per row; give counts between 0 and n_rows")
    used = np.flatnonzero(n_rows > 0)
    rows, fired = n_rows[used].astype(np.float64), counts[:, used].astype(np.float64)
    n_tokens = rows.sum()
    entropies = binary_entropy_nats(fired / rows) @ rows / max(n_tokens, 1.0)
    total = binary_entropy_nats(fired.sum(axis=1) / max(n_tokens, 1.0))
    information = np.clip(total - entropies, 0.0, None)
    normalised = np.divide(information, total, out=np.zeros_like(information), where=total > 0)
    degrees = max(len(used) - 1, 1)
    p_values = np.asarray(special.chdtrc(degrees, 2 * n_tokens * information), dtype=np.float64)
    return PositionalInformation(information, normalised, p_values)


def binary_entropy_nats(rates: Float64[Array, "*shape"]) -> Float64[Array, "*shape"]:
    """-f ln f - (1 - f) ln(1 - f); 0 at 0 and 1."""
    return special.entr(rates) + special.entr(1 - rates)


def density_interval(
    n_active: Integer[Array, " features"], n: int, level: float = 0.95
) -> Float64[Array, "features 2"]:
    """Clopper-Pearson bounds of each feature's density over `n` independent units; [0, 1] when n is 0.

    Units are what was drawn independently. Tokens of one document are not: count windows or, safest, documents.
    """
    tail = (1 - level) / 2
    active = n_active.astype(np.float64)
    low = np.where(active > 0, special.betaincinv(np.maximum(active, 1), n - active + 1, tail), 0.0)
    high = np.where(active < n, special.betaincinv(active + 1, np.maximum(n - active, 1), 1 - tail), 1.0)
    return np.stack([low, high], axis=1)


def dead_density_bound(n: int, level: float = 0.95) -> float:
    """The highest density at which a feature would stay silent in `n` units with probability 1 - level: about 3 / n.

    Exactly 1 - (1 - level)^(1/n); 1 when n is 0.
    """
    return 1.0 if n == 0 else -np.expm1(np.log1p(-level) / n).item()


def token_entropy_nats(counts: Integer[Array, " tokens"]) -> float:
    """Entropy of the token on which a feature peaks, given how often it peaks on each; 0 without any.

    0 is one token only; exp(entropy) is an effective number of tokens. Biased low: n peaks show at most ln n.
    """
    total = int(counts.sum())
    return float(special.entr(counts / total).sum()) if total else 0.0


def top_token_fraction(counts: Integer[Array, " tokens"]) -> float:
    """Share of the commonest token among a feature's peaks: its consistency; 0 without any."""
    total = int(counts.sum())
    return float(counts.max() / total) if total else 0.0
