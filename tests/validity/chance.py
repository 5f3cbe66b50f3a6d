"""Sampling intervals of what a judge must score, at 99 %: at another seed each check by one fails once in a hundred.

The intervals of verdicts, choices and texts are exact (hypergeometric, binomial, and their convolutions). That of a
ranking is the normal limit, which at these numbers differs from the exact one in the third digit; those of simulation
and of rankings in pairs are drawn from the exact distribution, by as many draws as keep the limits within .002.
"""

from collections.abc import Sequence
from functools import reduce

import numpy as np
from jaxtyping import Float64
from scipy import stats

from sae_auto_interp.metrics import Confusion
from sae_auto_interp.metrics.judged_trials import mann_whitney
from sae_auto_interp.types import Array, Score

LEVEL = 0.99
_TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
_N_DRAWS = 4000


def ignorant_interval(counts: Confusion) -> tuple[float, float]:
    """Of balanced accuracy, where so many yeses are dealt out at random over the trials (hypergeometric)."""
    n_yes = counts.tp + counts.fp
    hits = stats.hypergeom(counts.n, counts.n_positive, n_yes).ppf(_TAILS)
    rates = hits / counts.n_positive + 1 - (n_yes - hits) / counts.n_negative
    return float(rates[0]) / 2, float(rates[1]) / 2


def erring_interval(n_positive: int, n_negative: int, miss_rate: float, false_alarm_rate: float) -> tuple[float, float]:
    """Of balanced accuracy, where each answer is wrong by an independent coin (convolution of two binomials)."""
    hits = stats.binom.pmf(np.arange(n_positive + 1), n_positive, 1 - miss_rate)
    rejected = stats.binom.pmf(np.arange(n_negative + 1), n_negative, 1 - false_alarm_rate)
    grid = np.add.outer(np.arange(len(hits)) / n_positive, np.arange(len(rejected)) / n_negative) / 2
    order = np.argsort(grid, axis=None)
    below = np.cumsum(np.outer(hits, rejected).reshape(-1)[order])
    values = grid.reshape(-1)[order]
    return float(values[np.searchsorted(below, _TAILS[0])]), float(values[np.searchsorted(below, _TAILS[1])])


def choice_interval(n: int, accuracy: float) -> tuple[float, float]:
    """Of the share of right ones among `n` choices (binomial)."""
    low, high = stats.binom(n, accuracy).ppf(_TAILS) / n
    return float(low), float(high)


def drawn_interval(n_firing: Sequence[int], n_pool: int, n_drawn: int) -> tuple[float, float]:
    """Of the share that fires among texts drawn from one pool for each of several features (sum of hypergeometrics)."""
    each = [stats.hypergeom.pmf(np.arange(n_drawn + 1), n_pool, n, n_drawn) for n in n_firing]
    below = np.cumsum(reduce(np.convolve, each))
    low, high = np.searchsorted(below, _TAILS) / (n_drawn * len(n_firing))
    return float(low), float(high)


def ranking_interval(score: Score) -> tuple[float, float]:
    """Of AUROC where the confidences are dealt out at random over the trials: the normal limit of Mann and Whitney's U,
    its variance corrected for ties."""
    positive, negative = _confidences(score)
    n_positive, n_negative = len(positive), len(negative)
    n = n_positive + n_negative
    _, counts = np.unique(np.concatenate([positive, negative]), return_counts=True)
    ties = float((counts.astype(np.float64) ** 3 - counts).sum()) / (n * (n - 1))
    sd = np.sqrt((n + 1 - ties) / (12 * n_positive * n_negative))
    return float(0.5 - stats.norm.ppf(_TAILS[1]) * sd), float(0.5 + stats.norm.ppf(_TAILS[1]) * sd)


def paired_ranking_interval(score: Score) -> tuple[float, float]:
    """The same where trials come in pairs, and coins deal each pair's two confidences out."""
    positive, negative = _confidences(score)
    rng = np.random.default_rng(0)
    areas: list[float] = []
    for _ in range(_N_DRAWS):
        is_swapped = rng.random(len(positive)) < 0.5
        dealt = np.where(is_swapped, negative, positive), np.where(is_swapped, positive, negative)
        areas.append(mann_whitney(*dealt))
    low, high = np.quantile(areas, _TAILS)
    return float(low), float(high)


def unrelated_interval(score: Score) -> tuple[float, float]:
    """Of the correlation of predictions that have nothing to do with the truth.

    The planted truth of a window is as likely in any other, and with its two sentences swapped. So these are drawn.
    """
    true = np.array([trial.true for trial in score.simulations])
    predicted = np.array([trial.predicted for trial in score.simulations])
    n_windows, n_tokens = true.shape
    swapped = np.roll(true, n_tokens // 2, axis=1)
    products = np.stack([predicted @ true.T, predicted @ swapped.T])
    rng = np.random.default_rng(0)
    each = np.arange(n_windows)
    sums = [products[rng.integers(2, size=n_windows), each, rng.permutation(n_windows)].sum() for _ in range(_N_DRAWS)]
    covariances = np.array(sums) / true.size - true.mean() * predicted.mean()
    low, high = np.quantile(covariances / (true.std() * predicted.std()), _TAILS)
    return float(low), float(high)


def erring_correlation(fires: Float64[Array, " n"], miss_rate: float, false_alarm_rate: float) -> float:
    """Of 0 and 1 with the same, of which each is turned around by an independent coin: the limit of many tokens."""
    share = float(fires.mean())
    told = share * (1 - miss_rate) + (1 - share) * false_alarm_rate
    return (1 - miss_rate - false_alarm_rate) * float(np.sqrt(share * (1 - share) / (told * (1 - told))))


def erring_correlation_interval(
    fires: Float64[Array, " n"], miss_rate: float, false_alarm_rate: float
) -> tuple[float, float]:
    """Of the same for so many tokens, drawn."""
    rng = np.random.default_rng(0)
    rates = np.where(fires > 0, 1 - miss_rate, false_alarm_rate)
    found = [np.corrcoef(fires, rng.random(len(fires)) < rates)[0, 1] for _ in range(_N_DRAWS // 2)]
    low, high = np.quantile(found, _TAILS)
    return float(low), float(high)


def _confidences(score: Score) -> tuple[Float64[Array, " n_positive"], Float64[Array, " n_negative"]]:
    confidences = np.array([trial.confidence for trial in score.trials], np.float64)
    targets = np.array([trial.target for trial in score.trials])
    return confidences[targets], confidences[~targets]
