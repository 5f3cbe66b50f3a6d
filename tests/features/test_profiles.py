"""Planted features get the labels that describe them, and others get none; shares against counting by hand."""

import numpy as np
import pytest

from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.features.triage.labels import labels_of
from sae_auto_interp.features.triage.profiles import Corpus, Profile, profile_of, strong_peaks
from sae_auto_interp.metrics import benjamini_hochberg
from sae_auto_interp.types import NO_DOCUMENT, Array, FeatureEntries, FeatureId, TokenRows

WINDOW, CTX = 8, 32


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """600 rows of words 1 to 199, the commoner the lower; the first position is BOS."""
    rng = np.random.default_rng(0)
    tokens = (200 ** rng.random((600, CTX))).astype(np.int32)
    tokens[:, 0] = 0
    documents = np.repeat(np.arange(600, dtype=np.int32)[:, None], CTX, axis=1)
    documents[:, 0] = NO_DOCUMENT
    rows = TokenRows(tokens, documents, tuple(map(str, range(600))))
    return Corpus(WindowGrid.over(rows, WINDOW))


def profile(corpus: Corpus, fires: Array, seed: int = 0) -> Profile:
    """Of a feature that fires where it is told to, in text."""
    locations = np.flatnonzero(fires.reshape(-1) & corpus.is_text)
    values = np.random.default_rng(seed).exponential(size=len(locations)).astype(np.float32) + np.float32(0.1)
    return profile_of(FeatureEntries(FeatureId("m", seed), locations, values), corpus)


def labels(corpus: Corpus, *fires: Array) -> list[tuple[str, ...]]:
    found = [profile(corpus, each, seed) for seed, each in enumerate(fires)]
    q_values = benjamini_hochberg(np.array([each.positional_p for each in found]))
    n = int(corpus.is_text.sum())
    return [labels_of(each, float(q), n, 20) for each, q in zip(found, q_values, strict=True)]


def test_planted_features_are_labelled_as_what_they_are(corpus: Corpus) -> None:
    tokens = corpus.grid.rows.tokens
    rng = np.random.default_rng(1)
    chance = rng.random(tokens.shape)
    previous = np.zeros(tokens.shape, np.bool_)
    previous[:, 1:] = tokens[:, :-1] == 17
    position = np.arange(CTX)[None] + 0 * tokens
    word = tokens == 3
    planted = {
        "none": chance < 0.01,
        "in a context": word & (chance < 0.5),
        "single_token": word,
        "previous_token": previous,
        "positional": (position == 5) & (chance < 0.3),
        "rarely positional": (position == 5) & (chance < 0.06),
        "dense": chance < 0.2,
        "dead": tokens < 0,
        "rare": (position == 9) & (np.arange(600)[:, None] < 7),
    }
    expected = {"none": (), "in a context": (), "rarely positional": ("positional",)}
    for name, found in zip(planted, labels(corpus, *planted.values()), strict=True):
        assert found == expected.get(name, (name,)), name


def test_shares_are_those_counted_by_hand(corpus: Corpus) -> None:
    tokens = corpus.grid.rows.tokens
    fires = ((tokens == 3) | (tokens == 40)) & (np.random.default_rng(2).random(tokens.shape) < 0.7)
    found = profile(corpus, fires)
    locations = np.flatnonzero(fires.reshape(-1) & corpus.is_text)
    values = np.random.default_rng(0).exponential(size=len(locations)).astype(np.float32) + np.float32(0.1)
    by_window: dict[int, tuple[float, int]] = {}
    for location, value in zip(locations.tolist(), values.tolist(), strict=True):
        row, column = divmod(location, CTX)
        if (column - 1) // WINDOW < 3:
            window = row * 3 + (column - 1) // WINDOW
            by_window[window] = max(by_window.get(window, (0.0, 0)), (value, -location))
    peaks = [-at for _, at in sorted(by_window.values(), reverse=True)][: -(-4 * len(by_window) // 5)]
    entries = FeatureEntries(FeatureId("m", 0), locations, values)
    assert strong_peaks(entries, corpus.grid).tolist() == peaks
    flat = tokens.reshape(-1)
    on = flat[peaks].tolist()
    assert (found.n_peak_tokens, found.peak_token) == (2, max((3, 40), key=on.count))
    assert found.top_token_fraction == pytest.approx(max(on.count(3), on.count(40)) / len(on))
    in_text = np.isin(flat, (3, 40)) & corpus.is_text
    assert found.firing_fraction == pytest.approx(len(locations) / in_text.sum())
    before = {int(flat[at - 1]) for at in peaks if at % CTX > 1}
    after = [at for at in range(tokens.size) if at % CTX > 1 and int(flat[at - 1]) in before]
    assert found.n_previous_tokens == len(before)
    assert found.firing_fraction_after == pytest.approx(np.isin(after, locations).mean())
    assert (found.n_windows, found.n_activations) == (len(by_window), len(locations))


@pytest.mark.parametrize("density", [0.0015, 0.02, 0.3])
def test_chance_is_positional_as_often_as_the_level_says(corpus: Corpus, density: float) -> None:
    """At any density: p-values below .05 in 5 % of features that do not look at the position, and none labelled."""
    shape = corpus.grid.rows.tokens.shape
    found = [profile(corpus, np.random.default_rng(s).random(shape) < density, s) for s in range(400)]
    p_values = np.array([each.positional_p for each in found])
    assert abs((p_values < 0.05).mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 400)
    q_values = benjamini_hochberg(p_values)
    assert not any("positional" in labels_of(each, q, 10**6, 20) for each, q in zip(found, q_values, strict=True))


def test_25_peak_tokens_are_counted_once_each() -> None:
    """Windows with their peaks on tokens 5, 5 and 7 have two unique ones (check 25 that the peer was put to)."""
    tokens = np.array([[1, 5, 2, 2, 2, 5, 1, 1, 7, 1, 2, 2]], np.int32)
    rows = TokenRows(tokens, np.zeros_like(tokens), ("d",))
    locations = np.array([1, 2, 5, 8], np.int64)
    entries = FeatureEntries(FeatureId("m", 0), locations, np.array([3, 1, 4, 2], np.float32))
    found = profile_of(entries, Corpus(WindowGrid.over(rows, 4)))
    assert (found.n_windows, found.n_peak_tokens, found.peak_token) == (3, 2, 5)
