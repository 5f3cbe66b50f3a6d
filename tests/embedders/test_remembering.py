"""What was embedded once is not embedded again, up to a limit, and an error is not remembered."""

import asyncio

import numpy as np
import pytest

from sae_auto_interp.embedders import RememberingEmbedder
from sae_auto_interp.errors import ConfigError, ServerError
from tests.support.embedders import WordsEmbedder


def test_the_same_call_is_made_once_and_gives_the_same_bits() -> None:
    words = WordsEmbedder()
    embedder = RememberingEmbedder(words)
    first = asyncio.run(embedder.embed(["a cat", "a dog"]))
    again = asyncio.run(embedder.embed(("a cat", "a dog")))
    assert np.array_equal(first, again)
    assert words.calls == [["a cat", "a dog"]]
    assert embedder.name == "words"


def test_other_batches_of_the_same_texts_are_calls_of_their_own() -> None:
    """A text in another batch may have other last bits: what was asked before must not decide a result."""
    words = WordsEmbedder()
    embedder = RememberingEmbedder(words)
    for call in (["a", "b"], ["a"], ["b", "a"]):
        asyncio.run(embedder.embed(call))
    assert words.calls == [["a", "b"], ["a"], ["b", "a"]]


def test_the_calls_not_made_for_longest_are_forgotten() -> None:
    words = WordsEmbedder()
    embedder = RememberingEmbedder(words, n_texts=4)
    for call in (["a", "b"], ["c", "d"], ["a", "b"], ["e"], ["a", "b"], ["c", "d"]):
        asyncio.run(embedder.embed(call))
    assert words.calls == [["a", "b"], ["c", "d"], ["e"], ["c", "d"]]


def test_a_call_larger_than_the_memory_is_remembered_until_the_next() -> None:
    words = WordsEmbedder()
    embedder = RememberingEmbedder(words, n_texts=1)
    for call in (["a", "b"], ["a", "b"], ["c"], ["a", "b"]):
        asyncio.run(embedder.embed(call))
    assert len(words.calls) == 3


def test_an_error_is_not_remembered() -> None:
    words = WordsEmbedder(error=ServerError("503"))
    embedder = RememberingEmbedder(words)
    for _ in range(2):
        with pytest.raises(ServerError):
            asyncio.run(embedder.embed(["a"]))
    assert len(words.calls) == 2


def test_there_must_be_room_for_a_text() -> None:
    with pytest.raises(ConfigError, match="n_texts=0"):
        RememberingEmbedder(WordsEmbedder(), n_texts=0)
