"""How often a feature fires, with an interval.

Activations come in bunches: a feature that fires once in a window often fires again. So the interval is that of the
share of windows in which it fires (Wilson), scaled to tokens by the activations per active window: windows, not tokens,
count as independent. For a feature that never fires, the high end is that of the windows.
"""

from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL, wilson
from sae_auto_interp.types import Estimate, FeatureStats


def measured_density(stats: FeatureStats, level: float = DEFAULT_LEVEL) -> Estimate:
    """Share of text tokens on which the feature fires; `n` counts the windows that the interval rests on."""
    method = "Wilson over windows, scaled to tokens"
    if stats.n_tokens == 0:
        return Estimate(None, None, None, level, method, 0, 0, "no text token was seen")
    if stats.n_windows == 0:
        return Estimate(stats.density, None, None, level, method, 0, 0, "no interval: windows were not counted")
    share = stats.n_active_windows / stats.n_windows
    interval = wilson(stats.n_active_windows, stats.n_windows, level)
    scale = stats.density / share if share else 1.0
    return Estimate(
        stats.density, scale * interval.low, min(1.0, scale * interval.high), level, method, stats.n_windows, 0
    )
