"""Do two judges agree, and does one judge agree with itself?

In: verdicts on the same windows. Out: kappa, the agreement beyond what the rates of yes would give by chance: 1 is
perfect, 0 is chance. Intervals: cluster bootstrap over documents; for the verdicts of a whole run, over features.
Verdicts that failed in any column are left out and counted.

Two judges: J. Cohen, Educational and Psychological Measurement 20 (1960) 37; each keeps its own rate of yes. One judge
asked again (a language model at temperature 0 is not deterministic behind most servers): J. L. Fleiss, Psychological
Bulletin 76 (1971) 378; the repeats share one rate.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int64

from sae_auto_interp.metrics.bootstrap import Resampling, bootstrap_estimate
from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL
from sae_auto_interp.metrics.judged_trials import clusters_of
from sae_auto_interp.metrics.over_documents import DOCUMENT_RESAMPLES
from sae_auto_interp.metrics.rates import ratio
from sae_auto_interp.types import Array, Estimate

Verdicts = Sequence[bool | None]
"""One per window; None where the judge failed."""
_CONSTANT = "every verdict is the same: there is no agreement beyond chance to measure"


def cohen_kappa(
    first: Verdicts,
    second: Verdicts,
    documents: Sequence[int],
    rng: np.random.Generator,
    level: float = DEFAULT_LEVEL,
    n_resamples: int = DOCUMENT_RESAMPLES,
    unit: str = "documents",
) -> Estimate:
    """(p_o - p_e) / (1 - p_e) with p_e from each judge's own rate of yes.

    `documents` number the clusters that are resampled; `unit` says what they are, where they are no documents.
    """
    verdicts, clusters, n_failed = _complete([first, second], documents)
    return _estimate(_pair_columns(verdicts), _cohen, clusters, n_failed, rng, level, n_resamples, unit)


def equal_share(
    first: Verdicts,
    second: Verdicts,
    documents: Sequence[int],
    rng: np.random.Generator,
    level: float = DEFAULT_LEVEL,
    n_resamples: int = DOCUMENT_RESAMPLES,
    unit: str = "documents",
) -> Estimate:
    """p_o, the share of equal verdicts: what kappa corrects for chance."""
    verdicts, clusters, n_failed = _complete([first, second], documents)
    return _estimate(_pair_columns(verdicts), _equal, clusters, n_failed, rng, level, n_resamples, unit)


def retest_kappa(
    repeats: Sequence[Verdicts],
    documents: Sequence[int],
    rng: np.random.Generator,
    level: float = DEFAULT_LEVEL,
    n_resamples: int = DOCUMENT_RESAMPLES,
) -> Estimate:
    """Fleiss' kappa of one judge's repeats, two or more: agreement of two random repeats of a window."""
    assert len(repeats) >= 2, len(repeats)
    verdicts, clusters, n_failed = _complete(repeats, documents)
    return _estimate(_repeat_columns(verdicts), _fleiss, clusters, n_failed, rng, level, n_resamples, "documents")


def _complete(
    columns: Sequence[Verdicts], documents: Sequence[int]
) -> tuple[Bool[Array, "n k"], Int64[Array, " n"], int]:
    rows = list(zip(*columns, documents, strict=True))
    kept = [row for row in rows if all(verdict is not None for verdict in row[:-1])]
    verdicts = np.array([row[:-1] for row in kept], dtype=np.bool_).reshape(len(kept), len(columns))
    return verdicts, clusters_of([int(row[-1]) for row in kept if row[-1] is not None]), len(rows) - len(kept)


def _estimate(
    columns: Float64[Array, "n k"],
    of_sums: Callable[[Array], Array],
    clusters: Int64[Array, " n"],
    n_failed: int,
    rng: np.random.Generator,
    level: float,
    n_resamples: int,
    unit: str,
) -> Estimate:
    """A function of weighted column sums; summed by cluster first, since a run has a million windows."""
    n_units = int(clusters.max()) + 1 if len(clusters) else 0
    sums = np.zeros((n_units, columns.shape[1]))
    np.add.at(sums, clusters, columns)
    resampling = Resampling(n_units=n_units, unit=unit, level=level, n_resamples=n_resamples)
    reason = _CONSTANT if n_units else "no window has every verdict"
    return bootstrap_estimate(
        lambda weights: of_sums(weights @ sums), resampling, rng, n=len(clusters), n_failed=n_failed, undefined=reason
    )


def _pair_columns(verdicts: Bool[Array, "n 2"]) -> Float64[Array, "n 4"]:
    """One, first yes, second yes, equal."""
    first, second = verdicts.T
    return np.stack([np.ones(len(verdicts)), first, second, first == second], axis=1).astype(np.float64)


def _cohen(sums: Float64[Array, "draws 4"]) -> Float64[Array, " draws"]:
    a, b, observed = (sums[:, 1:] / sums[:, :1]).T
    return _beyond_chance(observed, a * b + (1 - a) * (1 - b))


def _equal(sums: Float64[Array, "draws 4"]) -> Float64[Array, " draws"]:
    return sums[:, 3] / sums[:, 0]


def _repeat_columns(verdicts: Bool[Array, "n k"]) -> Float64[Array, "n 3"]:
    """One, share of yes, share of equal pairs of repeats."""
    k, yes = verdicts.shape[1], verdicts.sum(axis=1).astype(np.float64)
    agree = (yes * (yes - 1) + (k - yes) * (k - yes - 1)) / (k * (k - 1))
    return np.stack([np.ones(len(verdicts)), yes / k, agree], axis=1)


def _fleiss(sums: Float64[Array, "draws 3"]) -> Float64[Array, " draws"]:
    rate, observed = (sums[:, 1:] / sums[:, :1]).T
    return _beyond_chance(observed, rate**2 + (1 - rate) ** 2)


def _beyond_chance(observed: Array, expected: Array) -> Array:
    return ratio(observed - expected, np.where(1 - expected > 1e-12, 1 - expected, 0.0))
