"""A world in which every feature's meaning is known: corpus, cache on disk, records by the library's own loader.

`PlantedWorld.make(folder)` writes the activations of the features of `rules.PLANTED` on a made-up corpus into a cache,
as caching a model would; `records` builds their records from it. A feature's strength on a token is drawn at random, so
that its quantiles mean nothing but strength. With an oracle for a judge every score must be perfect, and with a judge
that knows nothing it must be at chance: tests/validity holds every scorer to that.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from sae_auto_interp.cache.fingerprints import cache_fingerprint, rows_hash
from sae_auto_interp.cache.layout import FORMAT_VERSION, shard_ranges
from sae_auto_interp.cache.merge import merge_into_cache
from sae_auto_interp.cache.write_buffer import Spool
from sae_auto_interp.features.config import FeatureConfig
from sae_auto_interp.features.dataset import FeatureDataset
from sae_auto_interp.features.loader import FeatureLoader
from sae_auto_interp.features.neighbours import Neighbours
from sae_auto_interp.features.vocabulary import Vocabulary
from sae_auto_interp.planted.corpus import planted_rows
from sae_auto_interp.planted.rules import PLANTED
from sae_auto_interp.planted.words import SENTENCE_TOKENS
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Array, CacheManifest, Explanation, FeatureId, FeatureRecord, TokenRows

MODULE = "planted"
WINDOW = 2 * SENTENCE_TOKENS
"""Two whole sentences: every window has as many nouns and adjectives as any other."""
_NAME = "planted world"


@dataclass(frozen=True, slots=True, eq=False)
class PlantedWorld:
    """The corpus, and the folder of its cache."""

    folder: Path
    rows: TokenRows
    vocabulary: Vocabulary
    seed: int

    @classmethod
    def make(cls, folder: Path, n_documents: int = 1200, seed: int = 0) -> "PlantedWorld":
        """Write a new world into an empty folder; the same arguments give the same bytes."""
        rows, vocabulary = planted_rows(n_documents, seed)
        _write_cache(folder, rows, _activations(rows, vocabulary, seed))
        vocabulary.save(folder)
        return cls(folder, rows, vocabulary, seed)

    def loader(self, cfg: FeatureConfig) -> FeatureLoader:
        """A loader over the cache; each feature's neighbour is the one that its over-broad rule is about too."""
        return FeatureLoader(self.rows, FeatureDataset(self.folder, cfg), neighbours=[_neighbours()])

    def records(self, cfg: FeatureConfig) -> list[FeatureRecord]:
        """The record of every planted feature, in their order."""
        built = [self.loader(cfg).build(feature_id(i)) for i in range(len(PLANTED))]
        records = [record for record in built if isinstance(record, FeatureRecord)]
        assert len(records) == len(PLANTED), f"{len(PLANTED) - len(records)} features have too few examples: {built}"
        return records


def feature_id(place: int) -> FeatureId:
    """The address of a feature of `PLANTED`."""
    return FeatureId(MODULE, place)


def exact_explanation(feature: FeatureId) -> Explanation:
    """What the feature fires on."""
    return Explanation(feature, PLANTED[feature.index].exact.text, "exact", "planted-1")


def broad_explanation(feature: FeatureId) -> Explanation:
    """True wherever the feature fires, and wherever the one most like it does."""
    return Explanation(feature, PLANTED[feature.index].broad.text, "over_broad", "planted-1")


def record_config(n: int, *, n_random: int, n_near: int = 0, seed: int = 0) -> FeatureConfig:
    """Records with `n` activating examples for each purpose, and so many silent ones of both kinds for scoring."""
    return FeatureConfig(
        window=WINDOW,
        n_train=n,
        n_test=n,
        n_quantiles=min(n, 5),
        n_non_activating_train=n,
        n_non_activating_test={"random": n_random, "neighbour": n_near},
        n_neighbours=1,
        seed=seed,
    )


def _activations(
    rows: TokenRows, vocabulary: Vocabulary, seed: int
) -> Iterator[tuple[int, Int64[Array, " n"], Float32[Array, " n"]]]:
    """(feature, flat token indices, strengths) of each planted feature."""
    words = vocabulary.windows(rows.tokens)
    for place, feature in enumerate(PLANTED):
        fires = np.array([feature.exact.places(row) for row in words], dtype=np.bool_)
        locations = np.flatnonzero(fires.reshape(-1))
        rng = derived_rng(seed, "validity.strengths", feature_id(place))
        yield place, locations, rng.uniform(1, 9, len(locations)).astype(np.float32)


def _write_cache(
    folder: Path, rows: TokenRows, entries: Iterator[tuple[int, Int64[Array, " n"], Float32[Array, " n"]]]
) -> None:
    width = len(PLANTED)
    listed = list(entries)
    features = np.concatenate([np.full(len(locations), place) for place, locations, _ in listed])
    locations = np.concatenate([locations for _, locations, _ in listed])
    strengths = np.concatenate([strengths for _, _, strengths in listed])
    order = np.lexsort((features, locations))
    spool = Spool(
        folder / ".work", {MODULE: width}, n_positions=rows.tokens.size, dtype="float32", max_bytes=0, fingerprint=_NAME
    )
    spool.append(MODULE, features[order], locations[order], strengths[order])
    spool.commit(rows.n_rows, last=True)
    description = _description(rows, str(spool.location_dtype))
    merge_into_cache(spool.sources(MODULE), folder / MODULE, shard_ranges(width, 1), description)


def _description(rows: TokenRows, location_dtype: str) -> CacheManifest:
    digest = rows_hash(rows.tokens, rows.documents)
    return CacheManifest(
        format_version=FORMAT_VERSION,
        module_path=MODULE,
        model=_NAME,
        autoencoder=_NAME,
        weights_sha256="",
        data=_NAME,
        n_rows=rows.n_rows,
        ctx_len=rows.ctx_len,
        width=len(PLANTED),
        activation_dtype="float32",
        location_dtype=location_dtype,
        shards=(),
        fingerprint=cache_fingerprint(_NAME, digest, rows.n_rows, rows.ctx_len),
        configuration=_NAME,
        rows=digest,
    )


def _neighbours() -> Neighbours:
    nearest = np.array([[feature.neighbour] for feature in PLANTED], dtype=np.int64)
    values = np.full(nearest.shape, 0.9, dtype=np.float32)
    return Neighbours(MODULE, "decoder", _NAME, np.arange(len(PLANTED)), nearest, values)
