"""The norm mask: exactly the outliers are unread, whatever the batch size or interruption, and nobody counts them."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import nnsight
import numpy as np
import pytest
import torch
from torch import Tensor

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.callable_coder import CallableCoder, token_site
from sae_auto_interp.cache.combine import combine_caches
from sae_auto_interp.cache.older.convert import convert_cache
from sae_auto_interp.cache.reader import CacheReader
from sae_auto_interp.errors import CacheError, InputError, UnknownNameError
from sae_auto_interp.features import CacheOptions, FeatureCache, FeatureConfig, FeatureDataset, FeatureLoader
from sae_auto_interp.features.caching import outlier_norms as outlier_norms_module
from sae_auto_interp.features.caching.code_stream import CodeStream
from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.features.token_input import without_positions
from sae_auto_interp.types import NO_DOCUMENT, FeatureRecord, NormMask, TokenRows
from tests.features.test_resume import StoppedError, stop_after
from tests.support.records import directory_bytes, lookup_world, make_rows, read_entries, tiny_coder, tiny_gpt2

# Norms 5, 5, 5, 50 (exactly ten times the median) and 51.
VECTORS = [[3.0, 4.0], [4.0, 3.0], [5.0, 0.0], [30.0, 40.0], [51.0, 0.0]]
OUTLIER = 4


@pytest.fixture
def lookup() -> tuple[Any, dict[str, Any]]:
    return lookup_world(VECTORS)


def rows_of(n_rows: int = 30, ctx_len: int = 8, seed: int = 0) -> TokenRows:
    """One position in ten is an outlier; each row ends with padding that is one."""
    rng = np.random.default_rng(seed)
    tokens = rng.choice(5, (n_rows, ctx_len), p=[0.3, 0.3, 0.2, 0.1, 0.1]).astype(np.int32)
    documents = np.repeat(np.arange(n_rows, dtype=np.int32)[:, None], ctx_len, axis=1)
    tokens[:, -1], documents[:, -1] = OUTLIER, NO_DOCUMENT
    return TokenRows(tokens, documents, tuple(f"d{i}" for i in range(n_rows)))


def made(
    world: tuple[Any, dict[str, Any]], rows: TokenRows, directory: Path, batch_size: int = 4, **options: Any
) -> Path:
    options = {"max_norm_multiple": 10.0, "activation_dtype": "float32"} | options
    cache = FeatureCache(*world, batch_size=batch_size, options=CacheOptions(**options))
    cache.run(tokens=rows)
    cache.save_splits(1, directory)
    return directory


def test_exactly_the_outliers_are_left_out(lookup: Any, tmp_path: Path) -> None:
    rows = rows_of()
    reader = CacheReader(made(lookup, rows, tmp_path / "masked") / "site", verify=True)
    plain = CacheReader(made(lookup, rows, tmp_path / "plain", max_norm_multiple=None) / "site")
    is_outlier = (rows.tokens == OUTLIER) & (rows.documents != NO_DOCUMENT)
    assert is_outlier.any()
    assert np.array_equal(reader.masked_positions(), np.flatnonzero(is_outlier))
    kept = [entry for entry in read_entries(plain) if not is_outlier[entry[0], entry[1]]]
    assert read_entries(reader) == kept
    assert any(value == 40.0 for *_, value in kept), "a norm of exactly the limit is read"
    mask = reader.manifest.norm_mask
    assert mask is not None
    assert (mask.max_norm_multiple, mask.median_norm, mask.n_positions) == (10.0, 5.0, int(is_outlier.sum()))
    assert int(reader.statistics()["n_activations"][0]) == sum(entry[2] == 0 for entry in kept)
    assert plain.manifest.norm_mask is None
    assert len(plain.masked_positions()) == 0


@pytest.mark.parametrize("backend", ["hooks", "nnsight"])
def test_neither_batches_nor_buffers_nor_the_backend_change_a_byte(
    lookup: Any, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of()
    expected = directory_bytes(made(lookup, rows, tmp_path / "a"))
    assert expected == directory_bytes(made(lookup, rows, tmp_path / "b", 30, backend=backend, buffer_mib=0))
    monkeypatch.setattr(CodeStream, "batches_ahead", lambda self, n_tokens: 3)
    assert expected == directory_bytes(made(lookup, rows, tmp_path / "c", 1, backend=backend))


def test_a_module_s_filter_changes_nothing_about_what_is_masked(lookup: Any, tmp_path: Path) -> None:
    rows = rows_of()
    options = CacheOptions(max_norm_multiple=10.0)
    cache = FeatureCache(*lookup, batch_size=4, filters={"site": [1]}, options=options)
    cache.run(tokens=rows)
    cache.save_splits(1, tmp_path / "filtered")
    masked = [
        CacheReader(place / "site").masked_positions().tolist()
        for place in (tmp_path / "filtered", made(lookup, rows, tmp_path / "all"))
    ]
    assert masked[0] == masked[1] != []


def test_the_median_is_that_of_the_first_rows_text(
    lookup: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlier_norms_module, "MEDIAN_TOKENS", 16)
    rows = rows_of()
    tokens = rows.tokens.copy()
    tokens[:2, :-1] = 3  # the first two rows alone count: their text has norm 50, their padding 51
    rows = TokenRows(tokens, rows.documents, rows.document_names)
    mask = CacheReader(made(lookup, rows, tmp_path) / "site").manifest.norm_mask
    assert mask == NormMask(10.0, 50.0, 0, mask.sha256 if mask else "")


def test_an_interrupted_run_goes_on_with_the_same_norms(
    lookup: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of()
    options = CacheOptions(max_norm_multiple=10.0, activation_dtype="float32", work_dir=tmp_path / "work", buffer_mib=0)
    for n in (2, 3):
        with pytest.raises(StoppedError):
            FeatureCache(*lookup, batch_size=4, options=options, progress=stop_after(n)).run(tokens=rows)
    monkeypatch.setattr(outlier_norms_module, "median_norms", None)  # not measured again
    resumed = FeatureCache(*lookup, batch_size=7, options=options)
    resumed.run(tokens=rows)
    resumed.save_splits(1, tmp_path / "resumed")
    monkeypatch.undo()
    assert directory_bytes(tmp_path / "resumed") == directory_bytes(made(lookup, rows, tmp_path / "whole"))


def test_the_norms_of_other_work_and_damaged_ones_are_refused(lookup: Any, tmp_path: Path) -> None:
    rows, work = rows_of(), tmp_path / "work"
    options = CacheOptions(max_norm_multiple=10.0, work_dir=work, buffer_mib=0)
    with pytest.raises(StoppedError):
        FeatureCache(*lookup, batch_size=4, options=options, progress=stop_after(2)).run(tokens=rows)
    for other, tokens in ((options, rows.tokens[::-1]), (replace(options, max_norm_multiple=9.0), rows)):
        with pytest.raises(CacheError, match="half-finished cache of another configuration"):
            FeatureCache(*lookup, batch_size=4, options=other).run(tokens=tokens)
    (work / "norms.json").write_text("{")
    with pytest.raises(CacheError, match=r"norms\.json is damaged"):
        FeatureCache(*lookup, batch_size=4, options=options).run(tokens=rows)


def test_caches_of_given_medians_merge_into_that_of_all_rows(lookup: Any, tmp_path: Path) -> None:
    rows = rows_of()
    parts = [TokenRows(rows.tokens[s], rows.documents[s], rows.document_names) for s in (slice(0, 11), slice(11, 30))]
    places = [made(lookup, part, tmp_path / f"{i}", median_norms={"site": 5.0}) for i, part in enumerate(parts)]
    combine_caches(places, tmp_path / "both")
    combine_caches(places, tmp_path / "both")  # once more: it is seen to be done
    whole = made(lookup, rows, tmp_path / "whole", median_norms={"site": 5.0})
    assert directory_bytes(tmp_path / "both") == directory_bytes(whole)
    other = made(lookup, parts[1], tmp_path / "other", median_norms={"site": 5.5})
    with pytest.raises(CacheError, match="set of modules or filters, norm mask"):
        combine_caches([places[0], other], tmp_path / "never")


def test_what_is_unusable_is_named(lookup: Any, tmp_path: Path) -> None:
    rows = rows_of()
    for multiple in (1.0, -2.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match="max_norm_multiple"):
            CacheOptions(max_norm_multiple=multiple)
    with pytest.raises(InputError, match="median_norms without max_norm_multiple"):
        CacheOptions(median_norms={"site": 1.0})
    with pytest.raises(UnknownNameError, match="module path in median_norms 'sit'"):
        made(lookup, rows, tmp_path, median_norms={"sit": 1.0})
    with pytest.raises(InputError, match="site: the median activation norm is not given"):
        made(lookup, rows, tmp_path, median_norms={})
    nothing = TokenRows(rows.tokens, np.full_like(rows.documents, NO_DOCUMENT), ())
    with pytest.raises(InputError, match="needs the norm of some text"):
        made(lookup, nothing, tmp_path)
    zeros = lookup_world([[0.0, 0.0]] * 5)
    with pytest.raises(InputError, match=r"the median activation norm is 0\.0"):
        made(zeros, rows, tmp_path)


def test_an_activation_that_is_no_number_is_refused_and_not_masked(tmp_path: Path) -> None:
    for value in (float("nan"), float("inf")):
        world = lookup_world([*VECTORS[:4], [value, 0.0]])
        with pytest.raises(InputError, match="NaN, infinite or enormous"):
            made(world, rows_of(), tmp_path)


def test_a_damaged_list_of_positions_is_noticed(lookup: Any, tmp_path: Path) -> None:
    directory = made(lookup, rows_of(), tmp_path) / "site"
    content = (directory / "masked.safetensors").read_bytes()
    (directory / "masked.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CacheError, match=r"masked\.safetensors is damaged"):
        CacheReader(directory, verify=True)
    (directory / "masked.safetensors").write_bytes(content[:-2])
    with pytest.raises(CacheError, match=r"masked\.safetensors cannot be read"):
        CacheReader(directory).masked_positions()
    (directory / "masked.safetensors").unlink()
    with pytest.raises(CacheError, match=r"lost .*masked\.safetensors"):
        CacheReader(directory, verify=True)


def test_without_a_mask_an_older_list_goes(lookup: Any, tmp_path: Path) -> None:
    made(lookup, rows_of(), tmp_path)
    made(lookup, rows_of(), tmp_path, max_norm_multiple=None)
    assert not (tmp_path / "site" / "masked.safetensors").exists()


def test_other_layouts_cannot_say_what_is_masked(lookup: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made(lookup, rows_of(), tmp_path / "a")
    with caplog.at_level(logging.WARNING):
        convert_cache(tmp_path / "a", tmp_path / "b", "original")
    assert "positions that were masked for their norm" in caplog.text


# ------------------------------------------------------------------ records


def test_records_of_a_module_go_by_its_own_mask(world: tuple[Any, dict[str, Any]], tmp_path: Path) -> None:
    """Random models have no outliers, so a low multiple makes some, other ones in each module."""
    rows = make_rows(160, 16, rows_per_document=2, seed=5)
    made(world, rows, tmp_path, 50, max_norm_multiple=1.4)
    cfg = FeatureConfig(window=4, n_train=10, n_test=10, min_examples=10)
    dataset = FeatureDataset(tmp_path, cfg, verify=True)
    loader = FeatureLoader(rows, dataset)
    records = {record.feature.module_path: record for record in loader}
    masked = {path: dataset.masked_positions(path) for path in dataset.readers}
    assert len({tuple(positions) for positions in masked.values()}) == len(masked), "each module has its own"
    assert sum(len(positions) > 0 for positions in masked.values()) >= 2
    for path, record in records.items():
        assert record.stats.n_tokens == rows.n_text_tokens - len(masked[path])
        assert record.stats.n_windows == WindowGrid.over(without_positions(rows, masked[path]), 4).n_usable
        assert not positions_of(record, rows) & set(masked[path].tolist())


def positions_of(record: FeatureRecord, rows: TokenRows) -> set[int]:
    """Flat token indices of everything that the record shows."""
    silent = record.non_activating
    examples = (*record.train, *record.test, *silent.explain, *silent.test)
    return {e.row * rows.ctx_len + e.start + i for e in examples for i in range(len(e.tokens))}


def test_other_processes_go_by_the_mask_too(world: tuple[Any, dict[str, Any]], tmp_path: Path) -> None:
    rows = make_rows(160, 16, rows_per_document=2, seed=5)
    made(world, rows, tmp_path, 50, max_norm_multiple=1.4)
    cfg = FeatureConfig(window=4, n_train=10, n_test=10, min_examples=10)
    loader = FeatureLoader(rows, FeatureDataset(tmp_path, cfg))
    features = loader.dataset.features[::7]
    outcomes = list(loader.prefetch(features, workers=1))
    for feature, outcome in zip(features, outcomes, strict=True):
        alone = loader.build(feature)
        assert type(outcome) is type(alone)
        if isinstance(outcome, FeatureRecord):
            assert isinstance(alone, FeatureRecord)
            assert outcome.stats == alone.stats
            assert positions_of(outcome, rows) == positions_of(alone, rows)


def test_token_ids_are_no_norms(tmp_path: Path) -> None:
    """Of a coder that reads token ids nothing is masked, beside one of activations of which some are."""
    model = nnsight.NNsight(tiny_gpt2())
    of_tokens = CallableCoder(one_for_all, d_in=1, width=1)
    attached = attach(model, {token_site(model): of_tokens, "h.1": tiny_coder("relu")})
    cache = FeatureCache(model, attached, batch_size=2, options=CacheOptions(max_norm_multiple=1.01))
    rows = make_rows(6, 8)
    cache.run(tokens=rows)
    manifests = cache.save_splits(1, tmp_path)
    activations = manifests["transformer.h.1"].norm_mask
    assert activations is not None
    assert activations.n_positions > 0
    assert manifests["transformer.wte"].norm_mask is None
    reader = CacheReader(tmp_path / "transformer.wte", verify=True)
    assert len(read_entries(reader)) == (rows.documents != NO_DOCUMENT).sum()


def one_for_all(ids: Tensor) -> Tensor:
    return torch.ones(len(ids), 1)
