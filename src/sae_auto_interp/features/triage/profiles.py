"""What a feature's entries say about it: its peak tokens, what they have in common, where in the row it fires.

The unit is the window of the grid, and a window's peak is the token with its highest activation (the first of equal
ones). Tokens are judged on the stronger four fifths of the windows, as in the blog post of delphi's authors; where
they scramble the context and run the model, whether a feature is free of context is read off the corpus here: of all
occurrences of its peak tokens, on how many does it fire?

Positions are pooled into so few bins that a feature is expected to fire five times in each: the chi-squared
distribution of the G-test then holds, and the information is not inflated by chance, at any density.
"""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int32, Int64

from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.features.statistics import positional_information, token_entropy_nats, top_token_fraction
from sae_auto_interp.types import NO_DOCUMENT, Array, FeatureEntries

STRONGER = 0.8
"""Share of a feature's windows, the strongest ones, whose peaks are looked at."""
FIRINGS_PER_BIN = 5


@dataclass(frozen=True, slots=True)
class Profile:
    """Of one feature; without active windows all but the counts mean nothing."""

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
    """Of all occurrences of some tokens, the share on which a feature fires; 0 where there are none."""
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
