"""The judged trials of a classification score as arrays; what failed is only counted."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from sae_auto_interp.errors import InputError
from sae_auto_interp.types import NO_DOCUMENT, Array, Score, Trial

NO_POSITIVES = "no judged trial is positive"
NO_NEGATIVES = "no judged trial is negative"
NEVER_YES = "the judge never answered yes"


@dataclass(frozen=True, slots=True)
class JudgedTrials:
    """One element per judged trial, in the score's order."""

    targets: Bool[Array, " n"]
    predictions: Bool[Array, " n"]
    confidences: Float64[Array, " n"]
    """NaN where the judge gave none."""
    clusters: Int64[Array, " n"]
    """Documents numbered 0, 1, ...; a trial without a document is one of its own."""
    n_failed: int

    @property
    def n(self) -> int:
        return len(self.targets)

    @property
    def n_clusters(self) -> int:
        return int(self.clusters.max()) + 1 if self.n else 0

    @property
    def missing_class(self) -> str | None:
        """Why a metric that needs both classes is undefined, if it is."""
        if not self.targets.any():
            return NO_POSITIVES
        return NO_NEGATIVES if self.targets.all() else None

    @property
    def missing_confidence(self) -> str | None:
        """Why a metric that needs every confidence is undefined, if it is."""
        n_missing = int((~np.isfinite(self.confidences)).sum())
        return f"{n_missing} of {self.n} judged trials have no confidence" if n_missing else None


def judged_trials(score: Score, keep: Callable[[Trial], bool] | None = None) -> JudgedTrials:
    """The judged trials, or those that `keep` keeps; raises InputError for a score of another kind."""
    check_classification(score)
    return _arrays(score, keep, lambda trial: trial.failure is None and trial.prediction is not None)


def ranked_trials(score: Score, keep: Callable[[Trial], bool] | None = None) -> JudgedTrials:
    """`judged_trials` for metrics of confidences, which rankings have too: their `predictions` mean nothing."""
    if score.kind != "ranking":
        return judged_trials(score, keep)
    return _arrays(score, keep, lambda trial: trial.failure is None)


def _arrays(score: Score, keep: Callable[[Trial], bool] | None, is_judged: Callable[[Trial], bool]) -> JudgedTrials:
    kept = [trial for trial in score.trials if keep is None or keep(trial)]
    judged = [trial for trial in kept if is_judged(trial)]
    return JudgedTrials(
        targets=np.array([t.target for t in judged], dtype=np.bool_),
        predictions=np.array([bool(t.prediction) for t in judged], dtype=np.bool_),
        confidences=np.array([math.nan if t.confidence is None else t.confidence for t in judged], dtype=np.float64),
        clusters=clusters_of([t.document for t in judged]),
        n_failed=len(kept) - len(judged),
    )


def check_classification(score: Score) -> None:
    """Raise InputError for a score of another kind."""
    if score.kind != "classification":
        raise InputError(f"score of {score.feature} by {score.scorer!r} is of kind {score.kind!r}, not classification")


def clusters_of(documents: list[int]) -> Int64[Array, " n"]:
    """Documents numbered 0, 1, ...; each item without a document is one of its own."""
    keys = [(document, 0) if document != NO_DOCUMENT else (NO_DOCUMENT, i) for i, document in enumerate(documents)]
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return np.array([number[key] for key in keys], dtype=np.int64)
