"""Facts about a feature that go with its record; re-exported by `types`."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

ExampleSource: TypeAlias = Literal["activating", "random", "neighbour", "similar", "token", "same_window", "generated"]
TriageLabel: TypeAlias = Literal["dead", "rare", "dense", "positional", "single_token", "previous_token"]
"""What a feature is known to be without a language model."""


@dataclass(frozen=True, slots=True)
class FeatureStats:
    """What streaming over the whole cache told about one feature."""

    n_tokens: int
    """Text tokens that the feature could have fired on."""
    n_activations: int
    n_windows: int
    """Windows on the grid that lie within one document."""
    n_active_windows: int
    max_activation: float
    mean_activation: float
    """Mean over the activations above zero."""
    n_near_duplicates: int = 0
    """Active windows left out of the examples because a stronger one has nearly the same text."""
    quantile_edges: tuple[float, ...] = ()
    """Between the equal-count bins of the other active windows: their highest maximum, that of each next bin, their
    lowest."""

    @property
    def density(self) -> float:
        """Fraction of text tokens on which the feature fires."""
        return self.n_activations / self.n_tokens if self.n_tokens else 0.0


@dataclass(frozen=True, slots=True)
class TokenLogits:
    """Tokens whose logits a feature's decoder direction raises and lowers most (direct logit attribution)."""

    top: tuple[tuple[str, float], ...]
    """(token, logit per unit of activation), largest first."""
    bottom: tuple[tuple[str, float], ...]
    """Most negative first."""


@dataclass(frozen=True, slots=True)
class FeatureProfile:
    """What a feature's firing says about it without any model (`features.profiles`)."""

    labels: tuple[TriageLabel, ...]
    peak_tokens: tuple[tuple[str, int], ...]
    """The commonest tokens on which it peaks within a window, and in how many windows; commonest first."""
    n_peak_tokens: int
    """Different tokens on which it peaks in the stronger four fifths of its windows."""
    token_entropy_nats: float
    """Entropy of those peaks; exp of it is an effective number of tokens."""
    firing_fraction: float
    """Share of all occurrences of these tokens on which it fires; 1 is context-free."""
    n_previous_tokens: int
    """Different tokens right before those peaks."""
    firing_fraction_after: float
    """Share of all places right after one of these on which it fires."""
    positional_information: float
    """Share of its firing that the position in the row explains, 0 to 1."""
    positional_q: float
    """q-value of that among the features of the module (Benjamini-Hochberg); 1 where it fires too seldom to tell."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """A record has fewer examples of a kind than were asked for: all that there were."""

    pool: str
    """What they are for, e.g. `train` or `non-activating for scoring`."""
    source: ExampleSource
    wanted: int
    found: int
