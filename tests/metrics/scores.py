"""Hand-made scores, and what a simulation may show by chance."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from sae_auto_interp.metrics import Resampling
from sae_auto_interp.metrics.bootstrap import (
    Statistic,
    bca_interval,
    jackknife_influence,
    percentile_interval,
    resampled_values,
)
from sae_auto_interp.types import Estimate, ExampleSource, Failure, FeatureId, Score, Trial

FEATURE = FeatureId("transformer.h.0", 17)
BROKEN = Failure("score", "unparsable", "no list in the reply", raw="sure!")
ALARM = 1e-3
"""How often a correct method may fail a test of its own error rate, were the seed not fixed."""


def make_score(
    targets: Sequence[int],
    answers: Sequence[int | None],
    confidences: Sequence[float | None] | None = None,
    quantiles: Sequence[int | None] | None = None,
    documents: Sequence[int] | None = None,
    sources: Sequence[ExampleSource] | None = None,
) -> Score:
    """Without more: positives are activating, negatives random, every trial has a document of its own."""
    trials = [
        Trial(
            target=bool(target),
            prediction=None if answer is None else bool(answer),
            confidence=None if confidences is None else confidences[i],
            source=sources[i] if sources is not None else "activating" if target else "random",
            quantile=None if quantiles is None else quantiles[i],
            document=i if documents is None else documents[i],
            failure=BROKEN if answer is None else None,
        )
        for i, (target, answer) in enumerate(zip(targets, answers, strict=True))
    ]
    return Score(FEATURE, "detection", f"lexical/{FEATURE}", "classification", tuple(trials))


class Known(NamedTuple):
    value: float
    low: float
    high: float


def known(estimate: Estimate) -> Known:
    """The numbers of an estimate that must have them."""
    assert estimate.value is not None, estimate
    assert estimate.low is not None, estimate
    assert estimate.high is not None, estimate
    return Known(estimate.value, estimate.low, estimate.high)


def count_covered(
    statistics: Sequence[Statistic], truth: float, resampling: Resampling, rng: np.random.Generator, batch: int = 25
) -> int:
    """How many data sets, each with its statistic, have an interval over `truth`.

    To save time `batch` sets share their resamples, which leaves the sets themselves independent.
    """
    n_covered, ones = 0, np.ones((1, resampling.n_units))
    for start in range(0, len(statistics), batch):
        chosen = statistics[start : start + batch]
        draws = resampled_values(lambda w, of=chosen: np.stack([s(w) for s in of], axis=1), resampling, rng)
        for statistic, values in zip(chosen, draws.T, strict=True):
            if resampling.method == "bca":
                influence = jackknife_influence(statistic, resampling)
                found = bca_interval(values, float(statistic(ones)[0]), influence, resampling.level)
            else:
                found = percentile_interval(values, resampling.level)
            n_covered += found.low <= truth <= found.high
    return n_covered


def assert_covers(n_covered: int, n_intervals: int) -> None:
    """The share covered lies within 93-97 %, as required of 95 % intervals.

    And that is no luck: were the true coverage as low as 92 %, or as high as 98 %, at most 6 % of seeds would pass.
    """
    assert stats.binom.sf(round(0.93 * n_intervals) - 1, n_intervals, 0.92) < 0.06, "too few intervals to tell"
    assert 0.93 <= n_covered / n_intervals <= 0.97, n_covered / n_intervals


def assert_rate(n_events: int, n: int, rate: float) -> None:
    """A count of independent events of a known rate lies where all but `ALARM` of the binomial distribution does."""
    low, high = stats.binom.ppf([ALARM / 2, 1 - ALARM / 2], n, rate)
    assert low <= n_events <= high, (n_events / n, low / n, high / n)


def assert_rate_at_most(n_events: int, n: int, rate: float) -> None:
    """The count is not higher than `rate` explains, but for `ALARM`."""
    assert n_events <= stats.binom.ppf(1 - ALARM, n, rate), n_events / n
