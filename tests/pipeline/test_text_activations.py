"""Texts are read as the cache was made: same tokens, same activations, same masks, whatever else is asked."""

import asyncio
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

from sae_auto_interp.autoencoders.attach import attach, attached_coder
from sae_auto_interp.data.layout import RowFiller, RowLayout
from sae_auto_interp.errors import UnknownNameError
from sae_auto_interp.features import CacheOptions, FeatureCache, FeatureDataset
from sae_auto_interp.features.caching.code_stream import CodeStream
from sae_auto_interp.pipeline.subject.reader import ROWS_PER_PASS, SubjectReader, SubjectTexts
from sae_auto_interp.types import FeatureId, TextActivations, TokenRows
from tests.pipeline.embedded import stored_coder, wrapped_model

TEXTS = [
    "def load(path):\n    return open(path)\n",
    "",
    "The river runs to the sea, and the sea is not full.",
    "\u00e9\u4e16 <|endoftext|> import os",
    "x = [" + "1, " * 300 + "]",
]
PATH = "transformer.h.1"
LAYOUT = RowLayout(ctx_len=64, n_tokens=1)


def attached() -> dict[str, Any]:
    return attach(wrapped_model(), {PATH: stored_coder("openai")})


def texts(layout: RowLayout = LAYOUT, **settings: Any) -> SubjectTexts:
    return SubjectTexts(wrapped_model(), attached(), layout, **settings)


@cache
def firing() -> tuple[FeatureId, ...]:
    """The two features that fire most often in the texts."""
    stream = CodeStream(wrapped_model(), {PATH: attached_coder(attached()[PATH])}, {}, "hooks")
    (found,) = stream.begin(rows(), 0, rows().n_rows).entries()
    counts = np.bincount(found.features)
    return tuple(FeatureId(PATH, int(i)) for i in np.argsort(-counts, kind="stable")[:2])


@cache
def rows() -> TokenRows:
    """The texts that are not empty."""
    filler = RowFiller(LAYOUT, wrapped_model().tokenizer)
    made = [filler.row(filler.ids_of(text)[:64], i) for i, text in enumerate(filter(None, TEXTS))]
    return TokenRows(np.stack([row.tokens for row in made]), np.stack([row.documents for row in made]), tuple("abcd"))


@pytest.mark.parametrize("max_norm_multiple", [None, 1.05])
def test_activations_are_those_of_the_cache(tmp_path: Any, max_norm_multiple: float | None) -> None:
    """The same texts as rows of a cache: the same entries, to the precision of its type."""
    wrapped, coders = wrapped_model(), attached()
    options = CacheOptions(activation_dtype="float32", max_norm_multiple=max_norm_multiple)
    feature_cache = FeatureCache(wrapped, coders, options=options)
    feature_cache.run(tokens=rows())
    manifests = feature_cache.save_splits(1, tmp_path)
    dataset = FeatureDataset(tmp_path)
    mask = manifests[PATH].norm_mask
    reader = SubjectTexts(wrapped, coders, LAYOUT, {} if mask is None else {PATH: mask})
    assert (mask is not None and mask.n_positions > 0) == (max_norm_multiple is not None)
    for feature in firing():
        entries = dataset.readers[PATH].entries(feature.index)
        assert len(entries.locations) > 2
        dense = np.zeros(rows().tokens.shape, np.float32)
        dense.reshape(-1)[entries.locations] = entries.activations
        found = [t for t, text in zip(reader.read(TEXTS, feature), TEXTS, strict=True) if text]
        for row, each in zip(dense, found, strict=True):
            assert each.activations == pytest.approx(row[: len(each.activations)], rel=1e-4, abs=1e-5)
            assert not row[len(each.activations) :].any()


def test_strings_are_those_of_the_text_and_of_a_long_one_its_beginning() -> None:
    reader = texts()
    for found, text in zip(reader.read(TEXTS, FeatureId(PATH, 0)), TEXTS, strict=True):
        joined = "".join(found.str_tokens)
        assert text.startswith(joined)
        assert joined == text or len(found.str_tokens) == 64
        assert len(found.str_tokens) == len(found.activations)


def test_bos_in_front_is_read_and_not_shown() -> None:
    with_bos = texts(RowLayout(ctx_len=64, n_tokens=1, prepend_bos=True))
    plain = texts()
    feature = firing()[0]
    for found, other, text in zip(with_bos.read(TEXTS, feature), plain.read(TEXTS, feature), TEXTS, strict=True):
        assert found.str_tokens == other.str_tokens[:63]
        assert len(found.activations) == len(found.str_tokens)
        assert text.startswith("".join(found.str_tokens))


def test_special_tokens_of_a_text_never_fire() -> None:
    reader = texts()
    (found,) = reader.read([TEXTS[3]], FeatureId(PATH, 0))
    special = found.str_tokens.index("<|endoftext|>")
    for index in range(200):
        assert reader.read([TEXTS[3]], FeatureId(PATH, index))[0].activations[special] == 0


def test_a_call_gives_the_same_bits_whatever_was_asked_before() -> None:
    reader = texts()
    features = firing()
    again = texts()
    again.read(["something else"] * (ROWS_PER_PASS + 3), features[-1])
    for feature in features:
        first, second = reader.read(TEXTS, feature), again.read(TEXTS, feature)
        assert [f.activations.tobytes() for f in first] == [s.activations.tobytes() for s in second]


def test_more_texts_than_fit_a_pass() -> None:
    many = [TEXTS[0], TEXTS[2]] * ROWS_PER_PASS
    reader = texts()
    feature = firing()[0]
    found = reader.read(many, feature)
    assert len(found) == len(many)
    assert all(np.array_equal(each.activations, found[i % 2].activations) for i, each in enumerate(found))


def test_an_unknown_module_is_named() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'transformer\.h\.1'"):
        texts().read(["a"], FeatureId("transformer.h.11", 0))


# ------------------------------------------------------------------ the thread


class FakeTexts:
    """Notes which thread it is read in, and how often at once."""

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.running = self.most = 0

    def read(self, texts: Sequence[str], feature: FeatureId) -> list[TextActivations]:
        self.running += 1
        self.most = max(self.most, self.running)
        self.threads.add(threading.current_thread().name)
        threading.Event().wait(0.02)
        self.running -= 1
        return [TextActivations((text,), np.array([feature.index], np.float32)) for text in texts]


def test_the_model_is_loaded_once_and_read_in_one_thread_while_the_loop_goes_on() -> None:
    fake, loaded = FakeTexts(), []

    def load() -> Any:
        loaded.append(threading.current_thread().name)
        return fake

    async def go() -> int:
        reader = SubjectReader(load)
        assert loaded == []
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.002)
                ticks += 1

        ticking = asyncio.create_task(tick())
        found = await asyncio.gather(*(reader.activations(["a", "b"], FeatureId(PATH, i)) for i in range(4)))
        ticking.cancel()
        assert [float(each[1].activations[0]) for each in found] == [0, 1, 2, 3]
        reader.close()
        return ticks

    assert asyncio.run(go()) > 5
    assert len(loaded) == 1
    assert fake.most == 1
    assert {name.startswith("subject-model") for name in fake.threads} == {True}
