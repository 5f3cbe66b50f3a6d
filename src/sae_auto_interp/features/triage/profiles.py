"""What a feature's entries say about it: its peak tokens, what they have in common, where in the row it fires.

The unit is the window of the grid, and a window's peak is the token with its highest activation (the first of equal
ones). Tokens are judged on the stronger four fifths of the windows, as in the blog post of delphi's authors; where
they scramble the context and run the model, whether a feature is free of context is read off the corpus here: of all
occurrences of its peak tokens, on how many does it fire?

Positions are pooled into so few bins that a feature is expected to fire five times in each: the chi-squared
distribution of the G-test then holds, and the information is not inflated by chance, at any density.

What a feature's firing counts say about it, without any model: density, position, tokens.

Pure functions on plain arrays, over many features at once; counts come from the cache. p-values are raw: over many
features adjust them (`metrics.benjamini_hochberg`).

Positions: the mutual information of firing and position (E. Voita et al., arXiv 2309.04827),

    I = 1/T sum_p [ f_p ln(f_p / f) + (1 - f_p) ln((1 - f_p) / (1 - f)) ]    in nats

with f_p the rate at position p and f their mean, is at most H(f) = -f ln f - (1 - f) ln(1 - f): .05 nats cannot be
reached below a density of .9 %. I / H(f), the share of the firing that position explains, can be compared between
features. G = 2 N I tests independence (N tokens; chi-squared with T - 1 degrees of freedom). BOS and other positions
without text must be left out: give 0 rows there.
"""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64, Integer
from scipy import special

from sae_auto_interp.errors import InputError
from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.types import NO_DOCUMENT, Array, FeatureEntries


@dataclass(frozen=True, slots=True)
class PositionalInformation:
    """How much the position in the row tells about firing, per feature."""

    information_nats: Float64[Array, " features"]
    normalised: Float64[Array, " features"]
    """I / H(f), 0 to 1; 0 for a feature that never or always fires."""
    p_values: Float64[Array, " features"]
    """P-value of the G-test; 1 for a feature that never or always fires."""


def positional_information(
    counts: Integer[Array, "features ctx_len"], n_rows: Integer[Array, " ctx_len"]
) -> PositionalInformation:
    """From how often each feature fires at each position, and how many rows have text there.

    Positions weigh as much text as they have; with equally many rows everywhere this is the formula above. The
    chi-squared approximation wants a few expected firings per position: with fewer it is conservative or erratic, so
    ask for at least 5 T activations.
    """
    if (counts < 0).any() or (counts > n_rows).any():
        raise InputError("a feature fires at a position at most once per row; give counts between 0 and n_rows")
    used = np.flatnonzero(n_rows > 0)
    rows, fired = n_rows[used].astype(np.float64), counts[:, used].astype(np.float64)
    n_tokens = rows.sum()
    entropies = binary_entropy_nats(fired / rows) @ rows / max(n_tokens, 1.0)
    total = binary_entropy_nats(fired.sum(axis=1) / max(n_tokens, 1.0))
    information = np.clip(total - entropies, 0.0, None)
    normalised = np.divide(information, total, out=np.zeros_like(information), where=total > 0)
    degrees = max(len(used) - 1, 1)
    p_values = np.asarray(special.chdtrc(degrees, 2 * n_tokens * information), dtype=np.float64)
    return PositionalInformation(information, normalised, p_values)


def binary_entropy_nats(rates: Float64[Array, "*shape"]) -> Float64[Array, "*shape"]:
    """-f ln f - (1 - f) ln(1 - f); 0 at 0 and 1."""
    return special.entr(rates) + special.entr(1 - rates)


def density_interval(
    n_active: Integer[Array, " features"], n: int, level: float = 0.95
) -> Float64[Array, "features 2"]:
    """Clopper-Pearson bounds of each feature's density over `n` independent units; [0, 1] when n is 0.

    Units are what was drawn independently. Tokens of one document are not: count windows or, safest, documents.
    """
    tail = (1 - level) / 2
    active = n_active.astype(np.float64)
    low = np.where(active > 0, special.betaincinv(np.maximum(active, 1), n - active + 1, tail), 0.0)
    high = np.where(active < n, special.betaincinv(active + 1, np.maximum(n - active, 1), 1 - tail), 1.0)
    return np.stack([low, high], axis=1)


def dead_density_bound(n: int, level: float = 0.95) -> float:
    """The highest density at which a feature would stay silent in `n` units with probability 1 - level: about 3 / n.

    Exactly 1 - (1 - level)^(1/n); 1 when n is 0.
    """
    return 1.0 if n == 0 else -np.expm1(np.log1p(-level) / n).item()


def token_entropy_nats(counts: Integer[Array, " tokens"]) -> float:
    """Entropy of the token on which a feature peaks, given how often it peaks on each; 0 without any.

    0 is one token only; exp(entropy) is an effective number of tokens. Biased low: n peaks show at most ln n.
    """
    total = int(counts.sum())
    return float(special.entr(counts / total).sum()) if total else 0.0


def top_token_fraction(counts: Integer[Array, " tokens"]) -> float:
    """Share of the commonest token among a feature's peaks: its consistency; 0 without any."""
    total = int(counts.sum())
    return float(counts.max() / total) if total else 0.0


STRONGER = 0.8
"""Share of a feature's windows, the strongest ones, whose peaks are looked at."""


FIRINGS_PER_BIN = 5


@dataclass(frozen=True, slots=True)
class Profile:
    """The profile of one feature; without active windows only the counts mean something."""

    n_activations: int
    """On text tokens."""
    n_windows: int
    """Windows of the grid in which it fires."""
    peak_token: int = -1
    """The commonest, of equal ones the lowest id."""
    n_peak_tokens: int = 0
    top_token_fraction: float = 0.0
    token_entropy_nats: float = 0.0
    firing_fraction: float = 0.0
    n_previous_tokens: int = 0
    firing_fraction_after: float = 0.0
    positional_information: float = 0.0
    positional_p: float = 1.0


PROFILE_FIELDS = tuple(field.name for field in fields(Profile))


class Corpus:
    """The text of a grid as what features are held against: how often each token occurs, and is followed by text."""

    def __init__(self, grid: WindowGrid) -> None:
        self.grid = grid
        self.tokens: Int32[Array, " n_tokens"] = np.ascontiguousarray(grid.rows.tokens).reshape(-1)
        documents = np.ascontiguousarray(grid.rows.documents)
        self.is_text: Bool[Array, " n_tokens"] = (documents != NO_DOCUMENT).reshape(-1)
        follows = np.zeros(documents.shape, dtype=np.bool_)
        follows[:, 1:] = (documents[:, 1:] != NO_DOCUMENT) & (documents[:, 1:] == documents[:, :-1])
        self.follows: Bool[Array, " n_tokens"] = follows.reshape(-1)
        """Whether a token has one of the same document before it in its row."""

    @cached_property
    def counts(self) -> Int64[Array, " n_ids"]:
        """How often each token occurs."""
        return np.bincount(self.tokens[self.is_text].clip(min=0), minlength=int(self.tokens.max()) + 1)

    @cached_property
    def counts_followed(self) -> Int64[Array, " n_ids"]:
        """How often each token has another of its document after it."""
        before = self.tokens[np.flatnonzero(self.follows) - 1]
        return np.bincount(before.clip(min=0), minlength=int(self.tokens.max()) + 1)

    @cached_property
    def n_rows(self) -> Int64[Array, " ctx_len"]:
        """Rows that have text at each position."""
        return self.is_text.reshape(self.grid.rows.tokens.shape).sum(axis=0)


def profile_of(entries: FeatureEntries, corpus: Corpus) -> Profile:
    """The profile of a feature from all its entries."""
    locations = entries.locations[corpus.is_text[entries.locations]]
    peaks = strong_peaks(entries, corpus.grid)
    n_windows = len(np.unique(corpus.grid.usable(corpus.grid.windows_of(locations))))
    if n_windows == 0:
        return Profile(len(locations), 0)
    tokens, counts = np.unique(corpus.tokens[peaks], return_counts=True)
    with_previous = peaks[corpus.follows[peaks]]
    previous = np.unique(corpus.tokens[with_previous - 1])
    after = locations[corpus.follows[locations]]
    information, p_value = _position(locations, corpus)
    return Profile(
        n_activations=len(locations),
        n_windows=n_windows,
        peak_token=int(tokens[counts.argmax()]),
        n_peak_tokens=len(tokens),
        top_token_fraction=top_token_fraction(counts),
        token_entropy_nats=token_entropy_nats(counts),
        firing_fraction=_share(corpus.tokens[locations], tokens, corpus.counts),
        n_previous_tokens=len(previous),
        firing_fraction_after=_share(corpus.tokens[after - 1], previous, corpus.counts_followed),
        positional_information=information,
        positional_p=p_value,
    )


def strong_peaks(entries: FeatureEntries, grid: WindowGrid) -> Int64[Array, " n"]:
    """Flat token indices of the peaks of the stronger four fifths of the windows, the strongest first."""
    windows = grid.windows_of(entries.locations)
    counts = windows >= 0
    counts[counts] = grid.documents[windows[counts]] != NO_DOCUMENT
    windows, locations, values = windows[counts], entries.locations[counts], entries.activations[counts]
    order = np.lexsort((-values, windows))
    windows, locations, values = windows[order], locations[order], values[order]
    is_peak = np.ones(len(windows), dtype=np.bool_)
    np.not_equal(windows[1:], windows[:-1], out=is_peak[1:])
    locations, values = locations[is_peak], values[is_peak]
    strongest = np.argsort(-values, kind="stable")[: int(np.ceil(STRONGER * len(values)))]
    return locations[strongest]


def _share(fired_on: Int32[Array, " n"], tokens: Int32[Array, " k"], counts: Int64[Array, " n_ids"]) -> float:
    """Return the share of all occurrences of some tokens on which a feature fires; 0 without occurrences."""
    n = int(counts[tokens].sum())
    return int(np.isin(fired_on, tokens).sum()) / n if n else 0.0


def _position(locations: Int64[Array, " n"], corpus: Corpus) -> tuple[float, float]:
    """Normalised information of the position bin about firing, and the p-value of the G-test; (0, 1) for one bin."""
    ctx_len = corpus.grid.rows.ctx_len
    n_bins = min(ctx_len, len(locations) // FIRINGS_PER_BIN)
    if n_bins < 2:
        return 0.0, 1.0
    share = corpus.n_rows / corpus.n_rows.sum()  # bins hold equally much text, not equally many places
    bins = ((share.cumsum() - share / 2) * n_bins).astype(np.int64)
    fired = np.bincount(bins[locations % ctx_len], minlength=n_bins)
    rows = np.bincount(bins, weights=corpus.n_rows, minlength=n_bins).astype(np.int64)
    found = positional_information(fired[None], rows)
    return float(found.normalised[0]), float(found.p_values[0])
