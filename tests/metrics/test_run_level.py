"""Means over features, paired differences and skill."""

import math

import numpy as np
import pytest

from sae_auto_interp.metrics import compare_paired, mean_over_features, paired_difference, skill
from sae_auto_interp.metrics.bootstrap import BootstrapMethod
from sae_auto_interp.types import Estimate, FeatureId
from tests.metrics.scores import known


def feature(index: int) -> FeatureId:
    return FeatureId("transformer.h.0", index)


def estimate(value: float | None, n_failed: int = 0, reason: str | None = None) -> Estimate:
    return Estimate(value, value, value, 0.95, "test", 10, n_failed, reason)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_mean_counts_failed_trials_and_undefined_features() -> None:
    run = mean_over_features(
        {
            feature(0): estimate(0.5, n_failed=1),
            feature(1): estimate(0.7, n_failed=2),
            feature(2): estimate(None, n_failed=4, reason="no judged trial is positive"),
        },
        rng(),
    )
    assert run.estimate.value == pytest.approx(0.6)
    assert (run.estimate.n, run.estimate.n_failed, run.n_undefined) == (2, 7, 1)
    assert run.undefined_reasons == (("no judged trial is positive", 1),)
    assert run.estimate.low is not None
    assert run.estimate.high is not None
    assert 0.5 <= run.estimate.low <= 0.6 <= run.estimate.high <= 0.7


@pytest.mark.parametrize(("values", "reason"), [({}, "no feature was scored"), ({0: None}, "none of 1 features")])
def test_mean_of_nothing_is_undefined(values: dict[int, float | None], reason: str) -> None:
    run = mean_over_features({feature(i): estimate(v) for i, v in values.items()}, rng())
    assert (run.estimate.value, run.estimate.low, run.estimate.high, run.estimate.n) == (None, None, None, 0)
    assert reason in (run.estimate.reason or "")


def test_one_feature_has_a_mean_and_no_interval() -> None:
    run = mean_over_features({feature(0): estimate(0.8)}, rng())
    assert (run.estimate.value, run.estimate.low, run.estimate.high, run.estimate.n) == (0.8, None, None, 1)
    assert run.estimate.reason == "one feature gives no interval"


def test_the_order_of_features_changes_nothing() -> None:
    values = {feature(i): estimate(v) for i, v in enumerate(np.random.default_rng(2).random(20).tolist())}
    turned = dict(reversed(values.items()))
    assert mean_over_features(values, rng()) == mean_over_features(turned, rng())


def test_paired_difference_uses_only_common_features() -> None:
    matched = {feature(0): 0.9, feature(1): 0.8, feature(2): 1.0}
    other = {feature(0): 0.5, feature(1): 0.6, feature(3): 0.0}
    difference = paired_difference(matched, other, rng())
    assert difference.value == pytest.approx(0.3)
    assert difference.n == 2
    assert difference.reason == "2 features have only one of the two values"


def test_pairing_removes_what_the_features_share() -> None:
    """Features differ widely, the gain is always 0.1: paired, the interval is a point."""
    other = {feature(i): v for i, v in enumerate(np.random.default_rng(2).random(50).tolist())}
    matched = {f: v + 0.1 for f, v in other.items()}
    difference = paired_difference(matched, other, rng())
    assert difference.low == pytest.approx(0.1)
    assert difference.high == pytest.approx(0.1)


def test_paired_difference_of_nothing_is_undefined() -> None:
    difference = paired_difference({feature(0): 0.9}, {feature(1): 0.5}, rng(), n_failed=3)
    assert (difference.value, difference.n, difference.n_failed) == (None, 0, 3)
    assert "no feature has both values" in (difference.reason or "")
    assert skill({}, {}, rng()).value is None


def test_skill_is_zero_at_the_control_and_one_at_perfection() -> None:
    control = {feature(i): 0.4 + 0.02 * i for i in range(10)}
    assert skill(control, control, rng()).value == pytest.approx(0.0)
    assert skill(dict.fromkeys(control, 1.0), control, rng()).value == pytest.approx(1.0)
    half = skill({f: (1 + v) / 2 for f, v in control.items()}, control, rng())
    assert half.value == pytest.approx(0.5)
    assert half.low == pytest.approx(0.5)


def test_skill_over_a_perfect_control_is_undefined() -> None:
    perfect = {feature(i): 1.0 for i in range(3)}
    assert "nothing to gain" in (skill(perfect, perfect, rng()).reason or "")
    nearly = {feature(0): 1.0, feature(1): 0.5}
    partial = skill(nearly, nearly, rng())
    assert (partial.value, partial.low) == (0.0, None)
    assert skill({feature(0): 0.8}, {feature(0): 0.5}, rng()).low is None


def test_no_metric_is_ever_nan() -> None:
    run = mean_over_features({feature(i): estimate(0.5) for i in range(5)}, rng())
    assert all(math.isfinite(x) for x in (run.estimate.value, run.estimate.low, run.estimate.high) if x is not None)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_resampling_within_modules_leaves_out_their_differences(method: BootstrapMethod) -> None:
    """Two modules of 20 features at .6 and .8, with a spread of .05 within each."""
    spread = np.random.default_rng(1).normal(0.0, 0.05, 40)
    scores = {
        FeatureId(f"h.{i % 2}", i): estimate(0.6 + 0.2 * (i % 2) + float(noise)) for i, noise in enumerate(spread)
    }
    plain = mean_over_features(scores, rng(), method=method).estimate
    within = mean_over_features(scores, rng(), method=method, by_module=True).estimate
    assert within.value == pytest.approx(plain.value)
    assert known(within).high - known(within).low == pytest.approx(3.92 * 0.05 / np.sqrt(40), rel=0.4)
    assert known(plain).high - known(plain).low > 1.5 * (known(within).high - known(within).low)
    assert "stratified" in within.method
    same = compare_paired(scores, scores, rng(), by_module=True, method=method)
    assert same.difference.value == 0.0
