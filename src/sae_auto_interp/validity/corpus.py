"""The planted corpus: documents of made-up sentences, as token rows with their vocabulary.

A document has one row. One document in three is about one of the rare classes, whose words then take a quarter of the
places that they can take; elsewhere they are rare. So windows hold one or several words of a class, and the windows of
one document resemble each other, as they do in text.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int64

from sae_auto_interp.features.vocabulary import Vocabulary
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
from sae_auto_interp.types import Array, TokenRows

Classes = Mapping[str, tuple[str, ...]]
ROW_SENTENCES = 8
CTX_LEN = ROW_SENTENCES * SENTENCE_TOKENS
TOPICAL_DOCUMENTS = 1 / 3
TOPIC_SHARE = 0.25
"""Of the places of a class's part of speech, in a document that is about it."""
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
