"""Density: bunches of activations do not make it surer."""

import pytest

from sae_auto_interp.metrics import measured_density, wilson
from sae_auto_interp.types import FeatureStats
from tests.metrics.scores import known


def stats(n_activations: int, n_active_windows: int, n_windows: int = 1000, n_tokens: int = 64_000) -> FeatureStats:
    return FeatureStats(n_tokens, n_activations, n_windows, n_active_windows, 1.0, 1.0)


def test_it_is_as_sure_as_the_active_windows_are_many() -> None:
    once, bunched = measured_density(stats(40, 40)), measured_density(stats(400, 40))
    assert once.value == pytest.approx(40 / 64_000)
    assert bunched.value == pytest.approx(400 / 64_000)
    assert known(once).high / known(once).value == pytest.approx(wilson(40, 1000).high / 0.04)
    assert known(bunched).high / known(bunched).value == pytest.approx(known(once).high / known(once).value)
    assert (once.n, once.n_failed) == (1000, 0)


def test_a_silent_feature_has_an_upper_bound() -> None:
    found = known(measured_density(stats(0, 0)))
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(wilson(0, 1000).high)


def test_what_was_not_counted_has_no_interval() -> None:
    found = measured_density(stats(40, 0, n_windows=0))
    assert (found.low, found.reason) == (None, "no interval: windows were not counted")
    assert measured_density(stats(0, 0, 0, 0)).value is None
