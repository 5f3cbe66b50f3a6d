"""What FeatureCache writes equals a dense encode, whatever the batches, buffers and forms of its arguments."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sae_auto_interp.autoencoders.attach import attached_coder
from sae_auto_interp.cache.layout import MANIFEST
from sae_auto_interp.cache.reader import CacheReader
from sae_auto_interp.errors import CacheError, InputError
from sae_auto_interp.features import CacheOptions, FeatureCache, FeatureDataset
from sae_auto_interp.types import NO_DOCUMENT, CacheManifest, FeatureId, TokenRows
from tests.support.records import (
    WIDTH,
    Entry,
    dense_entries,
    directory_bytes,
    lookup_world,
    read_entries,
    tiny_coders,
    tiny_gpt2,
)

FLOAT32 = CacheOptions(activation_dtype="float32")


@pytest.fixture(scope="module")
def expected(rows: TokenRows) -> dict[str, list[Entry]]:
    """From a plain model that NNsight never touched."""
    return dense_entries(tiny_gpt2(), tiny_coders(), rows)


def cached(
    world: tuple[Any, dict[str, Any]], tokens: Any, directory: Path, n_tokens: int | None = None, **kw: Any
) -> Path:
    cache = FeatureCache(*world, **kw)
    cache.run(tokens=tokens, n_tokens=n_tokens)
    cache.save_splits(n_splits=3, save_dir=directory)
    return directory


def assert_same(found: list[Entry], expected: list[Entry], rtol: float = 1e-4) -> None:
    found, expected = sorted(found), sorted(expected)
    assert [entry[:3] for entry in found] == [entry[:3] for entry in expected]
    np.testing.assert_allclose([e[3] for e in found], [e[3] for e in expected], rtol=rtol, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_cache_equals_a_dense_encode(
    batch_size: int,
    world: tuple[Any, dict[str, Any]],
    rows: TokenRows,
    expected: dict[str, list[Entry]],
    tmp_path: Path,
) -> None:
    cached(world, rows, tmp_path, batch_size=batch_size, options=FLOAT32)
    assert set(expected) == {path.parent.name for path in tmp_path.glob(f"*/{MANIFEST}")}
    for module, entries in expected.items():
        assert len(entries) > 300
        reader = CacheReader(tmp_path / module, verify=True)
        assert_same(read_entries(reader), entries)
        locations = [reader.entries(i).locations for i in range(WIDTH)]
        assert all(bool((np.diff(found) > 0).all()) for found in locations)
    dataset = FeatureDataset(tmp_path)
    assert dataset.features == sorted({FeatureId(m, e[2]) for m, entries in expected.items() for e in entries})
    values = {(e.feature, int(at)): float(v) for e in dataset for at, v in zip(e.locations, e.activations, strict=True)}
    assert len(values) == sum(len(entries) for entries in expected.values())
    for module, entries in expected.items():
        for row, position, feature, value in entries:
            assert values[FeatureId(module, feature), row * 16 + position] == pytest.approx(value, rel=1e-4, abs=1e-5)


def test_padding_and_bos_are_read_by_the_model_and_never_cached(
    world: tuple[Any, dict[str, Any]], rows: TokenRows, expected: dict[str, list[Entry]], tmp_path: Path
) -> None:
    cached(world, rows, tmp_path / "a", options=FLOAT32)
    is_text = rows.documents != NO_DOCUMENT
    assert not is_text.all()
    for module in expected:
        places = np.array([e[:2] for e in read_entries(CacheReader(tmp_path / "a" / module))])
        assert is_text[places[:, 0], places[:, 1]].all()
    tokens = rows.tokens.copy()
    tokens[:, 0] = 7
    cached(world, TokenRows(tokens, rows.documents, rows.document_names), tmp_path / "b", options=FLOAT32)
    for module in expected:
        before, after = (CacheReader(tmp_path / name / module).statistics()["sum"] for name in ("a", "b"))
        assert not np.allclose(before, after, rtol=0.01)
    tokens = np.where(rows.documents == NO_DOCUMENT, 9, rows.tokens)
    tokens[:, 0] = 0
    padded = TokenRows(tokens.astype(np.int32), rows.documents, rows.document_names)
    cached(world, padded, tmp_path / "c", options=FLOAT32)
    for module, entries in expected.items():
        assert_same(read_entries(CacheReader(tmp_path / "c" / module)), entries)


def test_a_row_without_text_changes_nothing(
    world: tuple[Any, dict[str, Any]], rows: TokenRows, expected: dict[str, list[Entry]], tmp_path: Path
) -> None:
    empty = np.zeros((1, rows.ctx_len), np.int32)
    tokens, documents = np.vstack([rows.tokens, empty]), np.vstack([rows.documents, empty + NO_DOCUMENT])
    longer = TokenRows(tokens.astype(np.int32), documents.astype(np.int32), rows.document_names)
    for batch_size in (1, 4):
        cached(world, longer, tmp_path / str(batch_size), batch_size=batch_size, options=FLOAT32)
        for module, entries in expected.items():
            assert_same(read_entries(CacheReader(tmp_path / str(batch_size) / module)), entries)


def test_filters_keep_only_what_they_name(
    world: tuple[Any, dict[str, Any]], rows: TokenRows, expected: dict[str, list[Entry]], tmp_path: Path
) -> None:
    first, second, third = expected
    filters = {first: torch.tensor([39, 3, 3, 17]), second: []}
    cached(world, rows, tmp_path, filters=filters, options=FLOAT32)
    assert_same(read_entries(CacheReader(tmp_path / first)), [e for e in expected[first] if e[2] in (3, 17, 39)])
    assert read_entries(CacheReader(tmp_path / second)) == []
    assert_same(read_entries(CacheReader(tmp_path / third)), expected[third])


def test_values_are_rounded_to_float16_as_numpy_rounds(
    world: tuple[Any, dict[str, Any]], rows: TokenRows, tmp_path: Path
) -> None:
    cached(world, rows, tmp_path / "16")
    cached(world, rows, tmp_path / "32", options=FLOAT32)
    for module in ("transformer.h.0", "transformer.h.1.mlp"):
        half, single = (CacheReader(tmp_path / bits / module) for bits in ("16", "32"))
        assert (half.manifest.activation_dtype, single.manifest.activation_dtype) == ("float16", "float32")
        for index in range(WIDTH):
            exact = single.entries(index).activations
            np.testing.assert_array_equal(half.entries(index).activations, exact.astype(np.float16).astype(np.float32))


def test_only_entries_above_zero_are_kept_however_small(tmp_path: Path) -> None:
    world = lookup_world([[0, 0.5, 0, 1e-6], [0, 0, -2, 0], [1e-30, 0, 0, 65504]])
    cached(world, torch.tensor([[0, 1], [2, 0]]), tmp_path, batch_size=1)
    reader = CacheReader(tmp_path / "site")
    tiny, tiniest = float(np.float16(1e-6)), float(np.finfo(np.float16).smallest_subnormal)
    assert 0 < tiniest < tiny < 1.1e-6
    expected = [
        (0, 0, 1, 0.5),
        (0, 0, 3, tiny),
        (1, 0, 0, tiniest),
        (1, 0, 3, 65504.0),
        (1, 1, 1, 0.5),
        (1, 1, 3, tiny),
    ]
    assert sorted(read_entries(reader)) == expected
    assert reader.statistics()["n_activations"].tolist() == [1, 2, 0, 3]


def test_an_activation_beyond_float16_is_refused_and_fits_float32(tmp_path: Path) -> None:
    world, tokens = lookup_world([[1, 2, 0], [70_000, 3, 0]]), np.array([[0, 1]])
    with pytest.raises(
        CacheError, match="an activation of 70000 does not fit float16; set activation_dtype to float32"
    ):
        cached(world, tokens, tmp_path)
    cached(world, tokens, tmp_path, options=FLOAT32)
    assert (0, 1, 0, 70_000.0) in read_entries(CacheReader(tmp_path / "site"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_model_is_an_error_and_not_an_empty_cache(value: float, tmp_path: Path) -> None:
    world = lookup_world([[1, 2, 0], [value, 3, 0]])
    with pytest.raises(InputError, match="site gives NaN, infinite or enormous activations"):
        cached(world, [[0, 1]], tmp_path)
    only_padding = TokenRows(np.array([[0, 1]], np.int32), np.array([[0, NO_DOCUMENT]], np.int32), ("text",))
    cached(world, only_padding, tmp_path)


@pytest.mark.parametrize("buffer_mib", [0, 1])
def test_buffers_change_no_byte(
    buffer_mib: int, world: tuple[Any, dict[str, Any]], rows: TokenRows, tmp_path: Path
) -> None:
    cached(world, rows, tmp_path / "a", batch_size=2)
    cached(world, rows, tmp_path / "b", batch_size=2, options=CacheOptions(buffer_mib=buffer_mib))
    assert directory_bytes(tmp_path / "a") == directory_bytes(tmp_path / "b")


def test_the_manifest_names_the_commit_of_weights_from_the_hub(
    world: tuple[Any, dict[str, Any]], rows: TokenRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, attached = world
    coder = attached_coder(attached["transformer.h.0"])
    source = "hf:someone/saes/many/h.0@0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setattr(coder, "settings", replace(coder.settings, source=source, family="sparsify"))
    cache = FeatureCache(model, {"transformer.h.0": attached["transformer.h.0"]})
    cache.run(tokens=rows)
    manifest = cache.save_splits(1, tmp_path)["transformer.h.0"]
    assert (manifest.autoencoder, manifest.autoencoder_source) == ("sparsify:h.0", source)
    assert CacheReader(tmp_path / "transformer.h.0").manifest == manifest
    fields = json.loads(manifest.to_json())  # as written before there was the field
    del fields["autoencoder_source"], fields["sha256"]
    fields["sha256"] = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    assert CacheManifest.from_json(json.dumps(fields)) == replace(manifest, autoencoder_source="")


def test_the_manifest_says_what_was_cached(world: tuple[Any, dict[str, Any]], rows: TokenRows, tmp_path: Path) -> None:
    cache = FeatureCache(*world, options=CacheOptions(data_name="poems"))
    cache.run(tokens=rows)
    manifests = cache.save_splits(3, tmp_path)
    one = manifests["transformer.h.0"]
    assert CacheReader(tmp_path / "transformer.h.0").manifest == one
    assert (one.module_path, one.data, one.width, one.model) == ("transformer.h.0", "poems", WIDTH, "GPT2LMHeadModel")
    assert (one.activation_dtype, one.location_dtype) == ("float16", "uint16")
    assert [(shard.first, shard.last) for shard in one.shards] == [(0, 12), (13, 25), (26, 39)]
    assert {manifest.fingerprint for manifest in manifests.values()} == {cache.fingerprint(rows)}
    assert len({manifest.weights_sha256 for manifest in manifests.values()}) == 3
