"""What every simulation does around the question itself: windows, calibration, trials.

A simulator says from the explanation alone how strongly the feature fires on each token of a window (S. Bills et al.,
2023). Test windows and silent ones are simulated, each by itself; the truth is beside each prediction. Windows for
calibrating are development examples where the record has them, else training examples; never test examples.

Levels 0 to 10 -> activations: how a feature's unit is found, from windows that no score is reported on.

    none        a level is that share of the strongest training activation; no request is spent on it
    linear      least squares of the true activations on the levels
    percentile  the levels' distribution is mapped on that of the true activations: equal ranks, linear in between

After OpenAI's neuron-explainer (uncalibrated, linear, percentile matching). Departures: levels that are tied are mapped
on the mean of the activations of their ranks, not on the largest; and a line that does not rise, or levels that are all
alike, calibrate nothing, so `none` stands in. So calibration never turns a correlation around or makes it undefined.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from jaxtyping import Float64

from sae_auto_interp.errors import RETRYABLE_KINDS, ConfigError
from sae_auto_interp.scorers._levels import MAX_LEVEL, check_max_level
from sae_auto_interp.scorers._questions import NO_TEXT
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Array, Example, Explanation, Failure, FeatureRecord, Score, SimulationTrial, Usage

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


Levels: TypeAlias = tuple[float, ...]


Simulated: TypeAlias = tuple[Levels | Failure, Usage]
"""One level per token of a window, and what it cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation(ABC):
    """Settings and course of a simulation; a scorer adds how one window is simulated."""

    name: ClassVar[str]

    n_windows: int | None = None
    """Test windows at most, half of them activating (spread evenly from strongest to weakest); None: all."""
    calibration: CalibrationKind = "none"
    n_calibration: int = 10
    """Windows for calibrating, half of them activating; `none` needs none."""
    max_level: int = MAX_LEVEL
    """What the strongest activation is called; 9 for a model whose tokenizer splits numbers into digits."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_max_level(self.name, self.max_level)
        for name, value in (("n_windows", self.n_windows), ("n_calibration", self.n_calibration)):
            if value is not None and value < 2:
                raise ConfigError(f"scorers.{self.name}.{name}={value}; give at least 2")

    @abstractmethod
    async def simulate(self, explanation: str, str_tokens: Sequence[str]) -> Simulated:
        """A level for each token, from the explanation alone; a failure where there is not one for each."""
        ...

    async def score(self, record: FeatureRecord, explanation: Explanation, explanation_id: str) -> Score:
        rng = derived_rng(self.seed, "simulation.windows", record.feature)
        windows = _chosen(record.test, record.non_activating.test, self.n_windows, rng)
        calibration, calibrating = await self._calibration(record, explanation.text)
        if isinstance(calibration, Failure):
            trials = [_trial(example, calibration) for example in windows]
            return Score(record.feature, self.name, explanation_id, "simulation", (), calibrating, tuple(trials))
        simulated = await self._simulated(explanation.text, windows)
        trials = [
            _trial(e, _activations(levels, calibration)) for e, (levels, _) in zip(windows, simulated, strict=True)
        ]
        usage = sum((spent for _, spent in simulated), calibrating)
        return Score(record.feature, self.name, explanation_id, "simulation", (), usage, tuple(trials))

    async def _simulated(self, explanation: str, windows: Sequence[Example]) -> list[Simulated]:
        async def one(window: Example) -> Simulated:
            if not window.str_tokens:
                return NO_TEXT, Usage()
            levels, usage = await self.simulate(explanation, window.str_tokens)
            assert isinstance(levels, Failure) or len(levels) == len(window.str_tokens), f"{len(levels)} levels"
            return levels, usage

        return await asyncio.gather(*(one(window) for window in windows))

    async def _calibration(self, record: FeatureRecord, explanation: str) -> tuple[Calibration | Failure, Usage]:
        """What makes activations of levels."""
        largest = max((example.max_activation for example in record.train), default=0.0)
        if largest <= 0:
            return _no_unit(record), Usage()
        uncalibrated = proportional(largest, self.max_level)
        if self.calibration == "none":
            return uncalibrated, Usage()
        windows = self._calibration_windows(record)
        simulated = await self._simulated(explanation, windows)
        usage = sum((spent for _, spent in simulated), Usage())
        levels = [found for found, _ in simulated]
        failure = _no_fit(record, levels)
        if failure is not None:
            return failure, usage
        return FITS[self.calibration](*_pooled(windows, levels)) or uncalibrated, usage

    def _calibration_windows(self, record: FeatureRecord) -> list[Example]:
        has_development = bool(record.dev and record.non_activating.dev)
        activating = record.dev if has_development else record.train
        silent = record.non_activating.dev if has_development else record.non_activating.explain
        rng = derived_rng(self.seed, "simulation.calibration", record.feature)
        return _chosen(activating, silent, self.n_calibration, rng)


def _chosen(
    activating: Sequence[Example], silent: Sequence[Example], n: int | None, rng: np.random.Generator
) -> list[Example]:
    """All windows, or `n`: half of them activating, evenly by strength, and the rest silent, at random."""
    if n is None:
        return [*activating, *silent]
    strongest_first = sorted(activating, key=lambda example: -example.max_activation)
    n_activating = min(n - n // 2, len(strongest_first))
    places = np.linspace(0, len(strongest_first) - 1, n_activating).round().astype(int)
    drawn = rng.permutation(len(silent))[: n // 2]
    return [*(strongest_first[int(i)] for i in places), *(silent[int(i)] for i in drawn)]


def _activations(levels: Levels | Failure, calibration: Calibration) -> tuple[float, ...] | Failure:
    if isinstance(levels, Failure):
        return levels
    return tuple(float(value) for value in calibration(np.array(levels, dtype=np.float64)))


def _trial(example: Example, predicted: tuple[float, ...] | Failure) -> SimulationTrial:
    has_failed = isinstance(predicted, Failure)
    return SimulationTrial(
        true=tuple(float(value) for value in example.activations),
        predicted=None if has_failed else predicted,
        source=example.source,
        quantile=example.quantile,
        document=example.document,
        failure=predicted if has_failed else None,
    )


def _no_unit(record: FeatureRecord) -> Failure:
    return Failure("score", "no_examples", f"{record.feature} has no training example to take its unit from")


def _no_fit(record: FeatureRecord, levels: Sequence[Levels | Failure]) -> Failure | None:
    """Why nothing can be fitted, if it cannot. What may heal comes first: a fit must not depend on a bad moment."""
    failures = [each for each in levels if isinstance(each, Failure)]
    passing = next((failure for failure in failures if failure.kind in RETRYABLE_KINDS), None)
    if passing is not None or len(failures) < len(levels):
        return passing
    why = failures[0].message if failures else "the record has none"
    return Failure("score", "not_calibrated", f"no calibration window of {record.feature} was simulated: {why}")


def _pooled(
    windows: Sequence[Example], levels: Sequence[Levels | Failure]
) -> tuple[Float64[Array, " n"], Float64[Array, " n"]]:
    """Levels and true activations of the tokens of all windows that were simulated."""
    pairs = [(own, window) for own, window in zip(levels, windows, strict=True) if not isinstance(own, Failure)]
    simulated = np.concatenate([np.array(own, dtype=np.float64) for own, _ in pairs])
    return simulated, np.concatenate([window.activations.astype(np.float64) for _, window in pairs])
