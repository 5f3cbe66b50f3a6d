"""How much of the model's next-token loss a reconstruction keeps, from losses summed over documents.

    loss recovered = (CE ablated - CE reconstructed) / (CE ablated - CE clean)

1: the reconstruction is as good as the activation itself; 0: no better than the ablation (the mean, or zero, in its
place); below 0: worse. The measure of Bricken et al. 2023 ("Towards Monosemanticity") and Gao et al. 2024, arXiv
2406.04093. The document is the sampling unit of all intervals (percentile bootstrap, 10,000 resamples): tokens of one
document are no independent evidence. All losses of a document are resampled together.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from sae_auto_interp.metrics.bootstrap import DEFAULT_RESAMPLES, percentile_interval, resampled_means
from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL
from sae_auto_interp.types import Array, Estimate

_METHOD = "ratio of sums, percentile bootstrap over documents"
_ONE_DOCUMENT = "one document gives no interval"


@dataclass(frozen=True, slots=True)
class LossEstimates:
    """One autoencoder: cross-entropy per token in nats under each condition, and what its reconstruction recovers."""

    clean: Estimate
    reconstruction: Estimate
    mean: Estimate
    """Mean-ablation: the mean over the text in the place of the activation."""
    zero: Estimate
    recovered_from_mean: Estimate
    recovered_from_zero: Estimate


def loss_estimates(
    n_targets: Int64[Array, " n"],
    clean: Float64[Array, " n"],
    substituted: Mapping[str, Float64[Array, " n"]],
    rng: np.random.Generator,
) -> LossEstimates:
    """From the summed losses of each document, `substituted` with keys `reconstruction`, `mean` and `zero`."""
    reconstruction, mean, zero = (substituted[name] for name in ("reconstruction", "mean", "zero"))
    return LossEstimates(
        clean=mean_loss(clean, n_targets, rng),
        reconstruction=mean_loss(reconstruction, n_targets, rng),
        mean=mean_loss(mean, n_targets, rng),
        zero=mean_loss(zero, n_targets, rng),
        recovered_from_mean=loss_recovered(clean, reconstruction, mean, rng),
        recovered_from_zero=loss_recovered(clean, reconstruction, zero, rng),
    )


def mean_loss(
    losses: Float64[Array, " n"],
    n_targets: Int64[Array, " n"],
    rng: np.random.Generator,
    level: float = DEFAULT_LEVEL,
    n_resamples: int = DEFAULT_RESAMPLES,
) -> Estimate:
    """Cross-entropy per token in nats, from the sums and the counted tokens of each document; `n` is documents."""
    if n_targets.sum() == 0:
        return Estimate(None, None, None, level, _METHOD, len(losses), 0, "there is no token to predict")
    return _ratio(losses, n_targets.astype(np.float64), rng, level, n_resamples, "some resamples hold no token")


def loss_recovered(
    clean: Float64[Array, " n"],
    reconstructed: Float64[Array, " n"],
    ablated: Float64[Array, " n"],
    rng: np.random.Generator,
    level: float = DEFAULT_LEVEL,
    n_resamples: int = DEFAULT_RESAMPLES,
) -> Estimate:
    """Fraction of the loss recovered, from the summed losses of each document; `n` is documents.

    Undefined, with the reason, where the ablation does no harm: there is then nothing to recover.
    """
    if len(clean) == 0:
        return Estimate(None, None, None, level, _METHOD, 0, 0, "there is no document")
    if ablated.sum() <= clean.sum():
        reason = "the ablation does not raise the loss: there is nothing to recover"
        return Estimate(None, None, None, level, _METHOD, len(clean), 0, reason)
    harmless = "the ablation does not raise the loss in some resamples: no interval"
    return _ratio(ablated - reconstructed, ablated - clean, rng, level, n_resamples, harmless)


def _ratio(
    above: Float64[Array, " n"],
    below: Float64[Array, " n"],
    rng: np.random.Generator,
    level: float,
    n_resamples: int,
    undefined: str,
) -> Estimate:
    """Ratio of the sums; without an interval for one document, and where some resamples have no ratio."""
    n, value = len(above), float(above.sum() / below.sum())
    if n == 1:
        return Estimate(value, None, None, level, _METHOD, 1, 0, _ONE_DOCUMENT)
    means = resampled_means(np.stack([above, below], axis=1), rng, n_resamples)
    if means[:, 1].min() <= 0:
        return Estimate(value, None, None, level, _METHOD, n, 0, undefined)
    interval = percentile_interval(means[:, 0] / means[:, 1], level)
    return Estimate(value, interval.low, interval.high, level, _METHOD, n, 0)
