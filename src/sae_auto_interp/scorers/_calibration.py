"""Levels 0 to 10 -> activations: how a feature's unit is found, from windows that no score is reported on.

    none        a level is that share of the strongest training activation; no request is spent on it
    linear      least squares of the true activations on the levels
    percentile  the levels' distribution is mapped on that of the true activations: equal ranks, linear in between

After OpenAI's neuron-explainer (uncalibrated, linear, percentile matching). Departures: levels that are tied are mapped
on the mean of the activations of their ranks, not on the largest; and a line that does not rise, or levels that are all
alike, calibrate nothing, so `none` stands in. So calibration never turns a correlation around or makes it undefined.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float64

from sae_auto_interp.types import Array

CalibrationKind: TypeAlias = Literal["none", "linear", "percentile"]
Calibration: TypeAlias = Callable[[Float64[Array, " n"]], Float64[Array, " n"]]
"""Levels -> activations; never decreasing."""


def proportional(largest: float, max_level: int) -> Calibration:
    """`max_level` means the activation `largest`."""
    return lambda levels: levels * (largest / max_level)


def linear(levels: Float64[Array, " n"], true: Float64[Array, " n"]) -> Calibration | None:
    """The least-squares line; None where there is none, or it does not rise."""
    if not _varies(levels):
        return None
    centred = levels - levels.mean()
    slope = float(centred @ (true - true.mean())) / float(centred @ centred)
    if slope <= 0:
        return None
    intercept = float(true.mean() - slope * levels.mean())
    return lambda new: intercept + slope * new


def percentile(levels: Float64[Array, " n"], true: Float64[Array, " n"]) -> Calibration | None:
    """Rank by rank, linear between levels that occurred and flat beyond them; None where all levels are alike."""
    if not _varies(levels):
        return None
    distinct, first, counts = np.unique(np.sort(levels), return_index=True, return_counts=True)
    matched = np.add.reduceat(np.sort(true), first) / counts
    return lambda new: np.interp(new, distinct, matched)


def _varies(levels: Float64[Array, " n"]) -> bool:
    return len(levels) > 0 and float(levels.max()) > float(levels.min())


FITS = {"linear": linear, "percentile": percentile}
