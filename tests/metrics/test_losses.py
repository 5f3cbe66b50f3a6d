"""Loss recovered and its interval, from summed losses of documents."""

from typing import Any

import numpy as np
import pytest

from sae_auto_interp.metrics import loss_estimates, loss_recovered, mean_loss


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def documents(n: int, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """(counted tokens, clean, reconstructed, ablated) sums of n documents; 0.8 is recovered, more or less."""
    draw = rng(seed)
    n_targets = draw.integers(5, 100, n)
    clean = n_targets * draw.uniform(2, 4, n)
    harm = n_targets * draw.uniform(3, 5, n)
    return n_targets, clean, clean + harm * draw.uniform(0.1, 0.3, n), clean + harm


def test_values_are_the_ratios_of_the_sums() -> None:
    n_targets, clean, reconstructed, ablated = documents(20)
    found = loss_recovered(clean, reconstructed, ablated, rng())
    expected = (ablated.sum() - reconstructed.sum()) / (ablated.sum() - clean.sum())
    assert found.value == pytest.approx(expected)
    assert found.low is not None
    assert found.high is not None
    assert found.low < expected < found.high
    assert (found.n, found.n_failed, found.reason) == (20, 0, None)
    assert mean_loss(clean, n_targets, rng()).value == pytest.approx(clean.sum() / n_targets.sum())


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (1.0, 0.0), (1.5, -0.5)])
def test_perfect_useless_and_harmful_reconstructions(share: float, value: float) -> None:
    _, clean, _, ablated = documents(20)
    found = loss_recovered(clean, clean + share * (ablated - clean), ablated, rng())
    for number in (found.value, found.low, found.high):
        assert number == pytest.approx(value, abs=1e-12)


def test_the_interval_covers_at_its_level() -> None:
    truth = documents(200_000, seed=1)[1:]
    true = (truth[2].sum() - truth[1].sum()) / (truth[2].sum() - truth[0].sum())
    found = [loss_recovered(*documents(40, seed)[1:], rng(seed), n_resamples=1000) for seed in range(200)]
    covered = sum(e.low <= true <= e.high for e in found if e.low is not None and e.high is not None)
    assert 0.88 * 200 < covered < 0.99 * 200


@pytest.mark.parametrize(
    ("clean", "ablated", "value", "reason"),
    [
        ([], [], None, "there is no document"),
        ([2.0, 3.0], [2.0, 3.0], None, "does not raise the loss: there is nothing to recover"),
        ([2.0, 3.0], [1.0, 3.0], None, "does not raise the loss: there is nothing to recover"),
        ([2.0, 3.0], [1.0, 9.0], 0.4, "in some resamples: no interval"),
        ([2.0], [7.0], 0.6, "one document gives no interval"),
    ],
)
def test_what_has_no_value_or_no_interval_says_why(clean: Any, ablated: Any, value: float | None, reason: str) -> None:
    clean, ablated = np.array(clean), np.array(ablated)
    found = loss_recovered(clean, clean + 1.0 * (len(clean) > 1) + 2.0 * (len(clean) == 1), ablated, rng())
    assert found.value == (None if value is None else pytest.approx(value, abs=0.3))
    assert (found.low, found.high) == (None, None)
    assert reason in (found.reason or "")


def test_without_tokens_there_is_no_loss() -> None:
    assert mean_loss(np.zeros(0), np.zeros(0, dtype=np.int64), rng()).reason == "there is no token to predict"


def test_all_estimates_of_an_autoencoder() -> None:
    n_targets, clean, reconstructed, ablated = documents(20)
    zero = clean + 2 * (ablated - clean)
    found = loss_estimates(n_targets, clean, {"reconstruction": reconstructed, "mean": ablated, "zero": zero}, rng())
    assert found.zero.value == pytest.approx(zero.sum() / n_targets.sum())
    assert found.mean.value == pytest.approx(ablated.sum() / n_targets.sum())
    assert found.recovered_from_mean.value == pytest.approx((ablated - reconstructed).sum() / (ablated - clean).sum())
    assert found.recovered_from_zero.value == pytest.approx((zero - reconstructed).sum() / (zero - clean).sum())
