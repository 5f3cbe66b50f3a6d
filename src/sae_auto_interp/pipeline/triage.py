"""What is known of every feature of a run without a language model: profiles, labels, and a file that keeps them.

One pass over a module's cache; `triage/{module}.safetensors` in the run directory has one row per feature of the width,
and a checksum with the cache's fingerprint: what is of another cache, or damaged, is made again.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from sae_auto_interp.cache.derived import read_derived, write_derived
from sae_auto_interp.cache.opening import activation_counts
from sae_auto_interp.features import FeatureLoader
from sae_auto_interp.features.triage.labels import labels_of
from sae_auto_interp.features.triage.profiles import PROFILE_FIELDS, Corpus, Profile, profile_of, strong_peaks
from sae_auto_interp.features.vocabulary import Vocabulary
from sae_auto_interp.metrics import benjamini_hochberg
from sae_auto_interp.types import Array, FeatureId, FeatureProfile, TriageLabel

FOLDER = "triage"
SHOWN_TOKENS = 5
"""Peak tokens that a record names."""


@dataclass(frozen=True)
class ModuleTriage:
    """Profiles of all features of one module."""

    profiles: tuple[Profile, ...]
    n_text_tokens: int
    min_examples: int

    @cached_property
    def positional_q(self) -> Float64[Array, " width"]:
        """Adjusted p-values of the features that fire in enough windows; 1 for the others."""
        tested = np.array([profile.n_windows >= self.min_examples for profile in self.profiles], dtype=np.bool_)
        q_values = np.ones(len(self.profiles))
        q_values[tested] = benjamini_hochberg(np.array([p.positional_p for p in self.profiles])[tested])
        return q_values

    def labels(self, index: int) -> tuple[TriageLabel, ...]:
        profile, q_value = self.profiles[index], float(self.positional_q[index])
        return labels_of(profile, q_value, self.n_text_tokens, self.min_examples)

    def first_of(self, labels: Collection[TriageLabel], index: int) -> TriageLabel | None:
        """The first of a feature's labels that is among some, e.g. those that `features.skip` names."""
        return next((label for label in self.labels(index) if label in labels), None)

    def counts(self) -> Counter[str]:
        """How many features have each label; `unlabelled` is what a language model is needed for."""
        every = [self.labels(index) or ("unlabelled",) for index in range(len(self.profiles))]
        return Counter(label for labels in every for label in labels)


def triage_of(loader: FeatureLoader, module: str, root: Path, *, keep: bool = True) -> ModuleTriage:
    """The triage of a module, read from the run directory `root`, or made and, if `keep`, kept there."""
    path = root / FOLDER / f"{module}.safetensors"
    grid = loader.grid_of(module)
    source = _source(loader, module)
    profiles = _load(path, source)
    if profiles is None:
        profiles = _profiles(loader, module)
        if keep:
            _save(path, profiles, source)
    return ModuleTriage(profiles, grid.n_text_tokens, loader.cfg.min_examples)


def record_profile(
    feature: FeatureId, triage: ModuleTriage, loader: FeatureLoader, vocabulary: Vocabulary
) -> FeatureProfile:
    """What a record says of it, with the strings of its commonest peak tokens."""
    grid, profile = loader.grid_of(feature.module_path), triage.profiles[feature.index]
    peaks = strong_peaks(loader.dataset.entries(feature), grid)
    tokens, counts = np.unique(grid.rows.tokens.reshape(-1)[peaks], return_counts=True)
    commonest = np.argsort(-counts, kind="stable")[:SHOWN_TOKENS]
    strings = [vocabulary.alone(int(tokens[place])) for place in commonest]
    return FeatureProfile(
        labels=triage.labels(feature.index),
        peak_tokens=tuple(zip(strings, counts[commonest].tolist(), strict=True)),
        n_peak_tokens=profile.n_peak_tokens,
        token_entropy_nats=profile.token_entropy_nats,
        firing_fraction=profile.firing_fraction,
        n_previous_tokens=profile.n_previous_tokens,
        firing_fraction_after=profile.firing_fraction_after,
        positional_information=profile.positional_information,
        positional_q=float(triage.positional_q[feature.index]),
    )


def _profiles(loader: FeatureLoader, module: str) -> tuple[Profile, ...]:
    reader = loader.dataset.readers[module]
    corpus = Corpus(loader.grid_of(module))
    counts = activation_counts(reader).tolist()
    return tuple(
        profile_of(loader.dataset.entries(FeatureId(module, index)), corpus) if n else Profile(0, 0)
        for index, n in enumerate(counts)
    )


def _source(loader: FeatureLoader, module: str) -> str:
    """What decides the profiles: the cache, which document each token is of, and the windows."""
    manifest, rows, cfg = loader.dataset.readers[module].manifest, loader.grid.rows, loader.cfg
    documents = hashlib.sha256(np.ascontiguousarray(rows.documents).data).hexdigest()
    return f"triage {manifest.fingerprint} {documents} {cfg.window} {cfg.near_duplicate_tokens}"


def _save(path: Path, profiles: Sequence[Profile], source: str) -> None:
    rows = [asdict(profile) for profile in profiles]
    write_derived(path, {name: np.array([row[name] for row in rows]) for name in PROFILE_FIELDS}, source)


def _load(path: Path, source: str) -> tuple[Profile, ...] | None:
    arrays = read_derived(path, source)
    if arrays is None:
        return None
    return tuple(Profile(*row) for row in zip(*(arrays[name].tolist() for name in PROFILE_FIELDS), strict=True))
