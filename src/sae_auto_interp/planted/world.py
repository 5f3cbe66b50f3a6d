"""A world in which every feature's meaning is known: corpus, cache on disk, records by the library's own loader.

`PlantedWorld.make(folder)` writes the activations of the features of `rules.PLANTED` on a made-up corpus into a cache,
as caching a model would; `records` builds their records from it. A feature's strength on a token is drawn at random, so
that its quantiles mean nothing but strength. With an oracle for a judge every score must be perfect, and with a judge
that knows nothing it must be at chance: tests/validity holds every scorer to that.

The planted corpus: documents of made-up sentences, as token rows with their vocabulary.

A document has one row. One document in three is about one of the rare classes, whose words then take a quarter of the
places that they can take; elsewhere they are rare. So windows hold one or several words of a class, and the windows of
one document resemble each other, as they do in text.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from sae_auto_interp.cache.fingerprints import cache_fingerprint, rows_hash
from sae_auto_interp.cache.layout import FORMAT_VERSION, shard_ranges
from sae_auto_interp.cache.merge import merge_into_cache
from sae_auto_interp.cache.write_buffer import WriteBuffer
from sae_auto_interp.features.config import FeatureConfig
from sae_auto_interp.features.dataset import FeatureDataset
from sae_auto_interp.features.loader import FeatureLoader
from sae_auto_interp.features.neighbours import Neighbours
from sae_auto_interp.features.vocabulary import Vocabulary
from sae_auto_interp.planted.rules import PLANTED
from sae_auto_interp.planted.words import (
    ADJECTIVE,
    ADJECTIVES,
    NOUN,
    NOUNS,
    PLAIN_ADJECTIVES,
    PLAIN_NOUNS,
    SENTENCE_TOKENS,
    SENTENCES,
    VERB,
    VERBS,
)
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Array, CacheManifest, Explanation, FeatureId, FeatureRecord, TokenRows

Classes = Mapping[str, tuple[str, ...]]


ROW_SENTENCES = 8


CTX_LEN = ROW_SENTENCES * SENTENCE_TOKENS


TOPICAL_DOCUMENTS = 1 / 3


TOPIC_SHARE = 0.25
"""Share of a part of speech's places that a class takes in a document about it."""


RARE_SHARE = 0.0015
"""The same in all other documents."""


_OPEN: dict[str, tuple[Classes, Classes]] = {
    NOUN: (NOUNS, PLAIN_NOUNS),
    ADJECTIVE: (ADJECTIVES, PLAIN_ADJECTIVES),
    VERB: ({}, {"verb": VERBS}),
}
"""Rare and plain classes of each open place of a sentence."""


_TOPICS = tuple((part, name) for part, (rare, _) in _OPEN.items() for name in rare)


def planted_rows(n_documents: int, seed: int) -> tuple[TokenRows, Vocabulary]:
    """Rows of 64 tokens, one document each; every sentence ends where a multiple of eight tokens does."""
    words = _words()
    ids = {word: i for i, word in enumerate(words)}
    rng = derived_rng(seed, "validity.corpus")
    forms = np.array(SENTENCES)[rng.integers(len(SENTENCES), size=(n_documents, ROW_SENTENCES))]
    places = forms.reshape(n_documents, CTX_LEN)
    topics = np.where(rng.random(n_documents) < TOPICAL_DOCUMENTS, rng.integers(len(_TOPICS), size=n_documents), -1)
    tokens = np.array([ids.get(word, -1) for word in places.reshape(-1).tolist()], np.int32).reshape(places.shape)
    for part in _OPEN:
        row, column = np.nonzero(places == part)
        tokens[row, column] = _drawn(part, topics[row], ids, rng)
    owners = np.repeat(np.arange(n_documents, dtype=np.int32)[:, None], CTX_LEN, axis=1)
    names = tuple(f"document {i}" for i in range(n_documents))
    return TokenRows(tokens, owners, names), Vocabulary(tuple(_spaced(word).encode() for word in words))


def _drawn(
    part: str, topics: Int64[Array, " n"], ids: Mapping[str, int], rng: np.random.Generator
) -> Int64[Array, " n"]:
    """Ids of words for places of one kind; `topics` are those of the documents that the places are in."""
    rare, plain = _OPEN[part]
    shares = [np.where(topics == _TOPICS.index((part, name)), TOPIC_SHARE, RARE_SHARE) for name in rare]
    drawn = rng.random(len(topics))
    everyday = np.array([ids[word] for members in plain.values() for word in members])
    chosen = everyday[rng.integers(len(everyday), size=len(topics))]
    lower = np.zeros(len(topics))
    for share, members in zip(shares, rare.values(), strict=True):
        is_this = (drawn >= lower) & (drawn < lower + share)
        of_class = np.array([ids[word] for word in members])
        chosen[is_this] = of_class[rng.integers(len(of_class), size=int(is_this.sum()))]
        lower = lower + share
    return chosen


def _words() -> list[str]:
    fixed = {word for sentence in SENTENCES for word in sentence} - set(_OPEN)
    classes = [members for groups in _OPEN.values() for group in groups for members in group.values()]
    return sorted(fixed | {word for members in classes for word in members})


def _spaced(word: str) -> str:
    return word if word == "." else f" {word}"


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
    """Records with `n` activating examples for each purpose, and silent ones of both kinds for scoring."""
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
    spool = WriteBuffer(
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
