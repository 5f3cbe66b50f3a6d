"""What the best of k explanations scores by luck alone.

Taking the best of k candidates by their score raises the score even where the candidates say nothing: k uniform scores
have a best one of k / (k + 1) on average. So the best of k is compared with the best of k uninformative ones (shuffled
explanations), never with one of them.

`development_accuracy` is what a candidate had on the examples that chose it. Of the chosen one it is flattered by the
choice; how much, its score on the untouched test examples tells.
"""

import numpy as np
from jaxtyping import Float64

from sae_auto_interp.errors import InputError
from sae_auto_interp.metrics.bootstrap import DEFAULT_RESAMPLES, Resampling, Statistic, bootstrap_estimate
from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL, mover_mean_of_two, wilson
from sae_auto_interp.metrics.judged_trials import NO_NEGATIVES, NO_POSITIVES
from sae_auto_interp.types import Array, Candidate, Estimate


def best_of_k_null(
    scores: Float64[Array, " n"],
    k: int,
    rng: np.random.Generator,
    level: float = DEFAULT_LEVEL,
    n_resamples: int = DEFAULT_RESAMPLES,
    n_failed: int = 0,
) -> Estimate:
    """Expected maximum of `k` scores drawn from those of uninformative explanations, each of another feature.

    Value: mean of the maximum over all sets of k of the n scores, which is unbiased. Undefined for fewer than k.
    """
    if k < 1:
        raise InputError(f"best of {k}: give how many candidates are chosen from, 1 or more")
    resampling = Resampling(n_units=len(scores), unit="features", level=level, n_resamples=n_resamples)
    reason = f"{len(scores)} scores are too few for the best of {k}"
    return bootstrap_estimate(
        expected_maximum(scores, k), resampling, rng, n=len(scores), n_failed=n_failed, undefined=reason
    )


def expected_maximum(scores: Float64[Array, " n"], k: int) -> Statistic:
    """Sum over scores x of x (P(max <= x) - P(max < x)), with P(max <= x) = C(c, k) / C(n, k) for c scores up to x."""
    order = np.argsort(scores, kind="stable")

    def statistic(weights: Float64[Array, "draws n"]) -> Float64[Array, " draws"]:
        below = np.cumsum(weights[:, order], axis=1)
        n = below[:, -1:]
        share = np.ones_like(below)
        for taken in range(k):
            share *= np.clip(below - taken, 0.0, None) / np.maximum(n - taken, 1.0)
        steps = np.diff(share, axis=1, prepend=0.0)
        return np.where(n[:, 0] >= k, steps @ scores[order], np.nan)

    return statistic


def development_accuracy(candidate: Candidate, level: float = DEFAULT_LEVEL) -> Estimate:
    """Balanced accuracy on the development examples; the interval is that of this candidate, had nothing been chosen.

    Windows count as independent trials: of development examples no documents are kept.
    """
    method, n = "square-and-add of two Wilson intervals", candidate.n_activating + candidate.n_silent
    if not candidate.n_activating or not candidate.n_silent:
        reason = NO_NEGATIVES if candidate.n_activating else NO_POSITIVES
        return Estimate(None, None, None, level, method, n, candidate.n_failed, reason)
    found, rejected = candidate.n_hits / candidate.n_activating, candidate.n_rejected / candidate.n_silent
    interval = mover_mean_of_two(
        found,
        wilson(candidate.n_hits, candidate.n_activating, level),
        rejected,
        wilson(candidate.n_rejected, candidate.n_silent, level),
    )
    return Estimate((found + rejected) / 2, interval.low, interval.high, level, method, n, candidate.n_failed)
