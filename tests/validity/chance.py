"""Exact sampling intervals of what a judge must score, at 99 %."""

import numpy as np
from scipy import stats

from sae_auto_interp.metrics import Confusion

LEVEL = 0.99
_TAIL = (1 - LEVEL) / 2


def ignorant_interval(counts: Confusion) -> tuple[float, float]:
    """Of balanced accuracy, where so many yeses are dealt out at random over the trials (hypergeometric)."""
    n_yes = counts.tp + counts.fp
    hits = stats.hypergeom(counts.n, counts.n_positive, n_yes).ppf([_TAIL, 1 - _TAIL])
    rates = hits / counts.n_positive + 1 - (n_yes - hits) / counts.n_negative
    return float(rates[0]) / 2, float(rates[1]) / 2


def erring_interval(counts: Confusion, miss_rate: float, false_alarm_rate: float) -> tuple[float, float]:
    """Of balanced accuracy, where each answer is wrong by an independent coin (convolution of two binomials)."""
    hits = stats.binom.pmf(np.arange(counts.n_positive + 1), counts.n_positive, 1 - miss_rate)
    rejected = stats.binom.pmf(np.arange(counts.n_negative + 1), counts.n_negative, 1 - false_alarm_rate)
    grid = np.add.outer(np.arange(len(hits)) / counts.n_positive, np.arange(len(rejected)) / counts.n_negative) / 2
    order = np.argsort(grid, axis=None)
    below = np.cumsum(np.outer(hits, rejected).reshape(-1)[order])
    values = grid.reshape(-1)[order]
    return tuple(float(values[np.searchsorted(below, p)]) for p in (_TAIL, 1 - _TAIL))  # pyright: ignore[reportReturnType]


def choice_interval(n: int, accuracy: float) -> tuple[float, float]:
    """Of the share of right ones among `n` choices (binomial)."""
    low, high = stats.binom(n, accuracy).ppf([_TAIL, 1 - _TAIL]) / n
    return float(low), float(high)


def ranking_interval(n_positive: int, n_negative: int) -> tuple[float, float]:
    """Of AUROC where ranks are dealt out at random: the normal limit of Mann and Whitney's U, without ties."""
    sd = np.sqrt((n_positive + n_negative + 1) / (12 * n_positive * n_negative))
    low, high = stats.norm(0.5, sd).ppf([_TAIL, 1 - _TAIL])
    return float(low), float(high)
