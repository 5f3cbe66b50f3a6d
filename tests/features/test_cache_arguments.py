"""What FeatureCache is given: tokens, filters and settings in any form, the wrong ones refused, and its fingerprint."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import nnsight
import numpy as np
import pytest
import torch

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.cache.layout import MANIFEST, STATISTICS
from sae_auto_interp.cache.reader import CacheReader
from sae_auto_interp.errors import InputError, UnknownNameError, WeightsError
from sae_auto_interp.features import CacheOptions, FeatureCache
from sae_auto_interp.types import NO_DOCUMENT, TokenRows
from tests.support.records import (
    VOCAB,
    WIDTH,
    directory_bytes,
    read_entries,
    tiny_coder,
    tiny_gpt2,
)

FLOAT32 = CacheOptions(activation_dtype="float32")


def cached(
    world: tuple[Any, dict[str, Any]], tokens: Any, directory: Path, n_tokens: int | None = None, **kw: Any
) -> Path:
    cache = FeatureCache(*world, **kw)
    cache.run(tokens=tokens, n_tokens=n_tokens)
    cache.save_splits(n_splits=3, save_dir=directory)
    return directory


@pytest.mark.parametrize(
    ("filters", "error", "message"),
    [
        ({"transformer.h.0.atn": [1]}, UnknownNameError, "did you mean 'transformer.h.0.attn'"),
        ({"transformer.h.0": [WIDTH]}, InputError, "must lie in 0..39"),
        ({"transformer.h.0": [-1]}, InputError, "must lie in 0..39"),
        ({"transformer.h.0": torch.ones(WIDTH, dtype=torch.bool)}, InputError, "bool values; give the indices"),
        ({"transformer.h.0": [0.5]}, InputError, "give the indices"),
    ],
)
def test_wrong_filters_are_refused(
    filters: Any, error: type[Exception], message: str, world: tuple[Any, dict[str, Any]]
) -> None:
    with pytest.raises(error, match=message):
        FeatureCache(*world, filters=filters)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_budget_is_whole_rows_whatever_the_batch_size(
    batch_size: int, world: tuple[Any, dict[str, Any]], tmp_path: Path
) -> None:
    tokens = torch.randint(0, VOCAB, (13, 16), generator=torch.Generator().manual_seed(0))
    cached(world, tokens, tmp_path, n_tokens=100, batch_size=batch_size)
    reader = CacheReader(tmp_path / "transformer.h.0")
    assert (reader.manifest.n_rows, reader.manifest.ctx_len) == (6, 16)
    assert {entry[0] for entry in read_entries(reader)} == set(range(6))


def test_tokens_and_their_number_come_in_any_order_and_form(world: tuple[Any, dict[str, Any]], tmp_path: Path) -> None:
    rows = TokenRows.from_ids(np.random.default_rng(0).integers(0, VOCAB, (5, 8)))
    array = rows.tokens.astype(np.int64)
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((32, array), {}),
        ((array, np.int64(32)), {}),
        ((torch.from_numpy(array),), {"n_tokens": 32}),
        ((), {"tokens": rows, "n_tokens": 39}),
        ((), {"tokens": array[:4].tolist()}),
        ((10**9,), {"tokens": array[:4]}),
    ]
    found = []
    for number, (positional, named) in enumerate(calls):
        cache = FeatureCache(*world)
        cache.run(*positional, **named)
        cache.save_splits(2, tmp_path / str(number))
        found.append(directory_bytes(tmp_path / str(number)))
    assert all(files == found[0] for files in found[1:])


@pytest.mark.parametrize(
    ("positional", "named", "message"),
    [
        ((), {}, "no tokens given"),
        ((5, 6), {}, "a second int"),
        ((np.ones((2, 4), int), np.ones((2, 4), int)), {}, "a second ndarray"),
        ((), {"tokens": [[1, 2], [3]]}, "give token ids as"),
        ((), {"tokens": torch.ones(4, dtype=torch.long)}, r"shape \[4\]"),
        ((), {"tokens": torch.ones(0, 4, dtype=torch.long)}, "at least one row"),
        ((), {"tokens": TokenRows.from_ids(np.ones((0, 4), int))}, "at least one row"),
        ((), {"tokens": torch.ones(2, 4)}, "whole numbers"),
        ((), {"tokens": np.ones((2, 4), int), "n_tokens": 3}, "less than one row of 4"),
        ((), {"tokens": np.full((2, 4), VOCAB)}, f"ids from {VOCAB} to {VOCAB}; the model knows 0 to {VOCAB - 1}"),
        ((), {"tokens": np.full((2, 4), -1)}, "ids from -1 to -1"),
    ],
)
def test_wrong_tokens_are_refused(
    positional: tuple[Any, ...], named: dict[str, Any], message: str, world: tuple[Any, dict[str, Any]]
) -> None:
    with pytest.raises(InputError, match=message):
        FeatureCache(*world).run(*positional, **named)


def test_saving_needs_a_run_and_may_be_repeated_while_the_work_is_kept(
    world: tuple[Any, dict[str, Any]], rows: TokenRows, tmp_path: Path
) -> None:
    cache = FeatureCache(*world, options=CacheOptions(work_dir=tmp_path / "work"))
    with pytest.raises(InputError, match="call run"):
        cache.save_splits(save_dir=tmp_path / "raw")
    cache.run(tokens=rows)
    with pytest.raises(InputError, match="n_splits=41 does not fit an autoencoder of width 40"):
        cache.save_splits(41, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
    cache.save_splits(5, tmp_path / "raw")
    before = read_entries(CacheReader(tmp_path / "raw" / "transformer.h.0"))
    cache.save_splits(2, tmp_path / "raw")
    files = {path.name for path in (tmp_path / "raw" / "transformer.h.0").iterdir()}
    assert files == {"0_19.safetensors", "20_39.safetensors", STATISTICS, MANIFEST}
    assert read_entries(CacheReader(tmp_path / "raw" / "transformer.h.0", verify=True)) == before
    cache.discard_work()
    assert not (tmp_path / "work").exists()
    with pytest.raises(InputError, match="call run"):
        cache.save_splits(save_dir=tmp_path / "raw")


def test_a_cache_runs_again_over_other_tokens_and_leaves_no_temporary_directory(
    world: tuple[Any, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    cache = FeatureCache(*world)
    assert not list(temporary.iterdir())
    cache.run(tokens=[[1, 2, 3]])
    cache.run(tokens=[[1, 2, 3, 4]])
    assert len(list(temporary.iterdir())) == 1
    assert cache.save_splits(1, tmp_path / "raw")["transformer.h.0"].ctx_len == 4
    assert not list(temporary.iterdir())
    cache.run(tokens=[[1, 2, 3]])
    del cache
    assert not list(temporary.iterdir())


def test_the_fingerprint_covers_what_changes_the_cache_and_nothing_else(rows: TokenRows) -> None:
    def fingerprint(rows: TokenRows = rows, seed: int = 0, kind: Any = "relu", **kw: Any) -> str:
        import nnsight

        model = nnsight.NNsight(tiny_gpt2(seed))
        settings = kw.pop("settings", {})
        attached = attach(model, {"transformer.h.0": tiny_coder(kind, **settings)})
        return FeatureCache(model, attached, **kw).fingerprint(rows)

    other = rows.tokens.copy()
    other[3, 4] += 1
    base = fingerprint()
    assert base == fingerprint(batch_size=7, options=CacheOptions(buffer_mib=3, data_name="x", backend="nnsight"))
    assert base == fingerprint(settings={"source": "elsewhere", "family": "openai"})
    renumbered = np.where(rows.documents == 0, 1, rows.documents).astype(np.int32)
    assert base == fingerprint(TokenRows(rows.tokens, renumbered, rows.document_names))
    padded = rows.documents.copy()
    padded[:, -1] = NO_DOCUMENT
    changed = [
        fingerprint(TokenRows(other, rows.documents, rows.document_names)),
        fingerprint(TokenRows(rows.tokens, padded, rows.document_names)),
        fingerprint(TokenRows(rows.tokens.reshape(-1, 8), rows.documents.reshape(-1, 8), rows.document_names)),
        fingerprint(seed=1),
        fingerprint(kind="topk"),
        fingerprint(settings={"side": "input"}),
        fingerprint(settings={"subtract_b_dec": False}),
        fingerprint(settings={"normalisation": "layer_norm"}),
        fingerprint(settings={"seed": 1}),
        fingerprint(filters={"transformer.h.0": [1]}),
        fingerprint(options=FLOAT32),
    ]
    assert len({base, *changed}) == 1 + len(changed)


def test_weights_are_hashed_once(
    world: tuple[Any, dict[str, Any]], rows: TokenRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sae_auto_interp.features.cache as module

    hashed: list[Any] = []
    original = module.weights_sha256
    monkeypatch.setattr(module, "weights_sha256", lambda coder: hashed.append(coder) or original(coder))
    cached(world, rows, tmp_path)
    assert len(hashed) == 3


def test_progress_counts_tokens(world: tuple[Any, dict[str, Any]], rows: TokenRows) -> None:
    class Recorder:
        def __init__(self) -> None:
            self.calls: list[tuple[Any, ...]] = []

        def note(self, text: str) -> None: ...

        def start(self, stage: str, total: int, done: int, unit: str) -> None:
            self.calls.append((stage, total, done, unit))

        def advance(self, n: int = 1, failed: int = 0) -> None:
            self.calls.append((n,))

        def finish(self) -> None:
            self.calls.append(("finish",))

    recorder = Recorder()
    FeatureCache(*world, batch_size=5, progress=recorder).run(tokens=rows)
    assert recorder.calls == [("cache", 176, 0, "tokens"), (80,), (80,), (16,), ("finish",)]


def test_impossible_settings_are_refused(world: tuple[Any, dict[str, Any]]) -> None:
    with pytest.raises(InputError, match="no autoencoder is attached"):
        FeatureCache(world[0], {})
    with pytest.raises(InputError, match="batch_size=0"):
        FeatureCache(*world, batch_size=0)
    with pytest.raises(InputError, match="activation_dtype='float64'; give float16 or bfloat16 or float32"):
        CacheOptions(activation_dtype="float64")
    with pytest.raises(InputError, match="buffer_mib=-1"):
        CacheOptions(buffer_mib=-1)


def test_an_autoencoder_of_another_place_is_refused(tmp_path: Path) -> None:
    import nnsight

    model = nnsight.NNsight(tiny_gpt2())
    attached = attach(model, {"transformer.h.0": tiny_coder("relu")})
    model._module.get_submodule("transformer.h.0").register_forward_hook(lambda *call: torch.cat([call[-1]] * 2, -1))
    with pytest.raises(WeightsError, match=r"reads 16 dimensions, but transformer\.h\.0 gives 32"):
        cached((model, attached), [[1, 2]], tmp_path)


def test_that_half_of_a_signed_code_is_left_out_is_said(caplog: pytest.LogCaptureFixture) -> None:
    model = nnsight.NNsight(tiny_gpt2())
    signed = tiny_coder("topk")
    signed.settings = replace(signed.settings, activation="abstopk")
    FeatureCache(model, attach(model, {"h.0": tiny_coder("topk"), "h.1": signed}))
    (record,) = caplog.records
    assert "transformer.h.1: its codes may be negative" in record.getMessage()
