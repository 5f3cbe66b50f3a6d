"""Caches of the original library and of delphi read as they were written; what cannot be known is asked for.

The files in written_by_delphi/ were made by delphi 0.1.3's own writer (make.py there) from what expected.json lists.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from safetensors.numpy import load_file, save_file

from sae_auto_interp.cache.arrays import ArrayFile
from sae_auto_interp.cache.older.files import load_sorted, older_shards
from sae_auto_interp.cache.older.loaded_shards import LoadedShards
from sae_auto_interp.cache.older.reader import OlderCacheReader
from sae_auto_interp.cache.opening import open_caches
from sae_auto_interp.cache.tokens import save_tokens
from sae_auto_interp.errors import CacheError, InputError, UnknownNameError
from sae_auto_interp.features import FeatureConfig, FeatureDataset, FeatureLoader
from sae_auto_interp.types import FeatureId
from tests.support.records import Entry, plain_rows, read_entries, write_cache, write_original

WRITTEN = Path(__file__).parent / "written_by_delphi"
EXPECTED = json.loads((WRITTEN / "expected.json").read_text())
TOKENS = np.array(EXPECTED["tokens"])
N_ROWS, CTX_LEN = TOKENS.shape
SMALL = ("layers.1", "layers.10")


def expected_entries(module: str) -> list[Entry]:
    return sorted((row, position, feature, value) for row, position, feature, value in EXPECTED["entries"][module])


# ------------------------------------------------------------------ delphi


@pytest.mark.parametrize("module", [*SMALL, "wide"])
def test_what_delphi_wrote_is_read(module: str) -> None:
    reader = open_caches(WRITTEN / "latents")[module]
    manifest = reader.manifest
    assert (manifest.width, manifest.n_rows, manifest.ctx_len) == (EXPECTED["widths"][module], N_ROWS, CTX_LEN)
    assert (manifest.model, manifest.data, manifest.activation_dtype) == ("some/model", "some/texts", "float16")
    fired = sorted({feature for _, _, feature, _ in expected_entries(module)})
    assert np.flatnonzero(reader.statistics()["n_activations"]).tolist() == fired
    found = [(feature, reader.entries(feature)) for feature in fired]
    assert expected_entries(module) == sorted(
        (location // CTX_LEN, location % CTX_LEN, feature, value)
        for feature, entries in found
        for location, value in zip(entries.locations.tolist(), entries.activations.tolist(), strict=True)
    )
    assert (reader.entries(0).locations.dtype, reader.entries(0).activations.dtype) == (np.int64, np.float32)


def test_its_layout_its_tokens_and_its_statistics_show() -> None:
    reader = open_caches(WRITTEN / "latents", verify=True)["layers.1"]
    assert isinstance(reader, OlderCacheReader)
    assert reader.layout == "delphi"
    stored = reader.tokens()
    assert stored is not None
    assert (stored.tokens == TOKENS).all()
    dense = np.zeros((N_ROWS, CTX_LEN, 10))
    for row, position, feature, value in expected_entries("layers.1"):
        dense[row, position, feature] = value
    statistics = reader.statistics()
    assert statistics["n_activations"].tolist() == (dense != 0).sum((0, 1)).tolist()
    assert statistics["n_active_rows"].tolist() == (dense != 0).any(1).sum(0).tolist()
    np.testing.assert_allclose(statistics["sum"], dense.sum((0, 1)))
    np.testing.assert_allclose(statistics["sum_of_squares"], (dense**2).sum((0, 1)))
    assert reader.position_totals().tolist() == (dense != 0).sum((0, 2)).tolist()
    assert reader.position_counts(4).tolist() == (dense[..., 4] != 0).sum(0).tolist()


def test_check_3_every_feature_of_every_split_is_there() -> None:
    """PEERS check 3: width 10 in 3 splits; the original library lost features 2, 5 and 9."""
    reader = open_caches(WRITTEN / "latents")["layers.1"]
    assert [shard.file for shard in reader.manifest.shards] == ["0_2.safetensors", "3_5.safetensors", "6_9.safetensors"]
    fired = {feature for _, _, feature, _ in expected_entries("layers.1")}
    assert {2, 5, 9} <= fired
    assert {feature for _, _, feature, _ in read_entries(reader)} == fired


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_check_4_indices_come_back_whole(dtype: type[np.generic], tmp_path: Path) -> None:
    """PEERS check 4: [[0, 65535], [1, 2]] in 16 bits is the same in 64; so are token ids beyond 65535."""
    (tmp_path / "m").mkdir()
    locations = np.array([[65535, 65535, 1], [0, 2, 65535]], dtype=dtype)
    arrays = {"locations": locations, "activations": np.array([1, 2], np.float16)}
    save_file(arrays, tmp_path / "m" / "0_65535.safetensors")
    reader = open_caches(tmp_path, ctx_len=65536)["m"]
    assert [reader.entries(feature).locations.tolist() for feature in (1, 65535)] == [[65536**2 - 1], [2]]
    stored = FeatureDataset(WRITTEN / "latents").tokens
    assert stored is not None
    assert int(stored.tokens.max()) == int(TOKENS.max()) > 65535


def test_check_26_a_module_is_taken_by_its_whole_name() -> None:
    """PEERS check 26: layers.1 and layers.10 do not mix."""
    dataset = FeatureDataset(WRITTEN / "latents", features={"layers.1": [0, 4], "layers.10": [4]})
    assert [str(found.feature) for found in dataset] == ["layers.1:0", "layers.1:4", "layers.10:4"]
    for found in dataset:
        module, index = found.feature.module_path, found.feature.index
        assert len(found.locations) == sum(entry[2] == index for entry in expected_entries(module))
    with pytest.raises(UnknownNameError, match="layers"):
        FeatureDataset(WRITTEN / "latents", features={"layers": [0]})
    with pytest.raises(InputError, match=r"layers\.10 has no feature 7: its width is 7"):
        FeatureDataset(WRITTEN / "latents", features={"layers.10": [7]})


def test_without_tokens_the_rows_are_counted_and_their_length_is_the_configurations(tmp_path: Path) -> None:
    root = WRITTEN / "without_tokens"
    dataset = FeatureDataset(root)
    manifest = dataset.readers["layers.2"].manifest
    assert (manifest.n_rows, manifest.ctx_len, dataset.tokens) == (N_ROWS, CTX_LEN, None)
    assert sorted(read_entries(dataset.readers["layers.2"])) == expected_entries("layers.2")
    more = np.concatenate([TOKENS, TOKENS[:3]])
    assert FeatureDataset(root, tokens=more).readers["layers.2"].manifest.n_rows == N_ROWS
    for wrong in (TOKENS[:-1], TOKENS[:, :-1]):
        with pytest.raises(InputError, match=r"of 12 tokens, not"):
            FeatureDataset(root, tokens=wrong)
    with pytest.raises(InputError, match="rows of 12 tokens, not of 13"):
        FeatureDataset(root, ctx_len=13)


def test_tokens_that_are_not_the_stored_ones_are_refused() -> None:
    other = TOKENS.copy()
    other[3, 3] += 1
    with pytest.raises(InputError, match="cached over other tokens"):
        FeatureDataset(WRITTEN / "latents", tokens=other)
    assert len(FeatureDataset(WRITTEN / "latents", tokens=np.concatenate([TOKENS, other]))) > 0


# ------------------------------------------------------------------ the original library

ENTRIES: list[Entry] = [(r, p, f, 0.5 + f + r) for r in range(6) for p in (0, 3) for f in (0, 1, 4, 5, 9)]


def test_the_original_layout_needs_the_length_of_rows(tmp_path: Path) -> None:
    root = write_original(tmp_path, {"layers.1": ENTRIES, "layers.10": ENTRIES[:10]}, width=10)
    with pytest.raises(InputError, match=r"layers\.1 is in the layout of original .* pass the tokens .* or ctx_len"):
        FeatureDataset(root)
    dataset = FeatureDataset(root, ctx_len=4)
    kept = [entry for entry in ENTRIES if entry[2] not in (4, 9)]
    assert sorted(read_entries(dataset.readers["layers.1"])) == kept
    assert sorted({f.index for f in dataset.features}) == [0, 1, 5]
    counted = {path: reader.manifest.n_rows for path, reader in dataset.readers.items()}
    assert counted == {"layers.1": 6, "layers.10": 6}, "modules of one run have the same rows"
    rows = plain_rows(7, 4)
    assert FeatureDataset(root, tokens=rows).readers["layers.1"].manifest.n_rows == 6
    save_tokens(root / "tokens.safetensors", rows)
    assert FeatureDataset(root).readers["layers.1"].manifest.n_rows == 7


def test_the_features_that_the_original_never_saved_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_original(tmp_path, {"m": ENTRIES}, width=10)
    reader = open_caches(root, ctx_len=4)["m"]
    assert len(reader.entries(4).locations) == len(reader.entries(3).locations) == 0
    reader.entries(9)
    reader.entries(0)
    named = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [message.split(":")[0].split(" has ")[1] for message in named] == [
        "no activation of feature 4",
        "no activation of feature 9",
    ]


def test_activations_below_zero_are_kept_and_told(caplog: pytest.LogCaptureFixture) -> None:
    reader = open_caches(WRITTEN / "latents")["layers.1"]
    assert min(value for *_, value in read_entries(reader)) == -0.5
    told = [record for record in caplog.records if "below zero" in record.getMessage()]
    assert len(told) == 1


# ------------------------------------------------------------------ reading


def test_opening_reads_headers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: ArrayFile, name: str, *_: Any) -> Any:
        raise AssertionError(f"{name} was read")

    monkeypatch.setattr(ArrayFile, "mapped", refuse)
    monkeypatch.setattr(ArrayFile, "read", refuse)
    dataset = FeatureDataset(WRITTEN / "latents", features={"layers.1": [0, 9]})
    assert len(dataset) == 2
    assert dataset.readers["layers.1"].manifest.n_rows == N_ROWS
    with pytest.raises(AssertionError, match="was read"):
        dataset.entries(FeatureId("layers.1", 0))


def test_few_shards_are_in_memory_whatever_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []

    def counted(shard: Any, *sizes: int) -> Any:
        loads.append(shard.path.name)
        return load_sorted(shard, *sizes)

    monkeypatch.setattr("sae_auto_interp.cache.older.reader.load_sorted", counted)
    readers = open_caches(WRITTEN / "latents")
    for module in SMALL:
        for index in range(7):
            readers[module].entries(index)
    assert loads == ["0_2.safetensors", "3_5.safetensors", "6_9.safetensors", "0_2.safetensors", "3_6.safetensors"]
    (kept,) = {id(reader._loaded): reader._loaded for reader in readers.values()}.values()  # pyright: ignore
    assert isinstance(kept, LoadedShards)
    assert [path.name for path in kept._kept] == loads[-LoadedShards.CAPACITY :]  # pyright: ignore


@given(data=st.data())
def test_any_order_in_the_file_reads_the_same(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    n_rows, ctx_len, first, width = (data.draw(st.integers(1, n)) for n in (6, 5, 3, 70_000))
    place = st.tuples(st.integers(0, n_rows - 1), st.integers(0, ctx_len - 1), st.integers(0, width - 1))
    places = data.draw(st.lists(place, unique=True, max_size=30))
    values = data.draw(st.lists(st.floats(-9, 9, width=16), min_size=len(places), max_size=len(places)))
    is_original = data.draw(st.booleans())
    root = tmp_path_factory.mktemp("cache")
    (root / "m").mkdir()
    name = f"{first}_{first + width - 1}.safetensors"
    located = np.array(places, dtype=np.int64).reshape(-1, 3)
    located[:, 2] += first if is_original else 0
    code = np.int64 if is_original else np.uint16 if width <= 1 << 16 and data.draw(st.booleans()) else np.uint32
    save_file({"locations": located.astype(code), "activations": np.array(values, np.float16)}, root / "m" / name)
    (shard,) = older_shards_of_one(root / "m", first)
    loaded = load_sorted(shard, ctx_len, n_rows)
    by_feature = sorted((f, r * ctx_len + p, value) for (r, p, f), value in zip(places, values, strict=True))
    assert loaded.locations.tolist() == [location for _, location, _ in by_feature]
    assert loaded.activations.tolist() == [value for *_, value in by_feature]
    assert np.diff(loaded.offsets).tolist() == np.bincount([f for f, *_ in by_feature], minlength=width).tolist()


def older_shards_of_one(directory: Path, first: int) -> Sequence[Any]:
    """The shard from `first` on, with an empty one for the features before."""
    (shard,) = directory.glob("*.safetensors")
    arrays = load_file(shard)
    empty = {"locations": arrays["locations"][:0], "activations": arrays["activations"][:0]}
    save_file(empty, directory / f"0_{first - 1}.safetensors")
    return older_shards(directory)[1:]


def test_bfloat16_is_read_as_it_is(tmp_path: Path) -> None:
    """The original saved whatever type the model computed in; numpy has no bfloat16."""
    (tmp_path / "m").mkdir()
    bits = (np.array([1.5, -3.0, 0.1], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    locations = np.array([[0, 0, 0], [0, 1, 0], [1, 0, 1]], np.int64)
    header = {
        "locations": {"dtype": "I64", "shape": [3, 3], "data_offsets": [0, 72]},
        "activations": {"dtype": "BF16", "shape": [3], "data_offsets": [72, 78]},
    }
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + locations.tobytes() + bits.tobytes()
    (tmp_path / "m" / "0_1.safetensors").write_bytes(content)
    reader = open_caches(tmp_path, ctx_len=2)["m"]
    assert reader.manifest.activation_dtype == "bfloat16"
    assert reader.entries(0).activations.tolist() == [1.5, -3.0]
    assert reader.entries(1).activations.tolist() == [0.099609375], "0.1 cut after 7 binary digits of its fraction"


def test_rows_of_65536_tokens_are_the_longest_that_16_bits_tell(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    locations = np.array([[0, 65535, 0]], np.uint16)
    save_file({"locations": locations, "activations": np.ones(1, np.float16)}, tmp_path / "m" / "0_0.safetensors")
    assert open_caches(tmp_path, ctx_len=65536)["m"].entries(0).locations.tolist() == [65535]
    with pytest.raises(CacheError, match="16 bits cannot tell the positions of rows of 65537 tokens"):
        open_caches(tmp_path, ctx_len=65537)["m"].entries(0)


def test_records_of_an_older_cache_are_those_of_our_own(tmp_path: Path) -> None:
    rows = plain_rows(80, 8, vocab=40)
    rng = np.random.default_rng(0)
    entries = [(r, p, f, float(rng.integers(1, 50))) for r in range(80) for p in (1, 6) for f in range(3) if r % 4 != f]
    config = FeatureConfig(window=8, n_train=8, n_test=8, n_quantiles=4, n_non_activating_train=5, min_examples=5)
    native = FeatureDataset(write_cache(tmp_path / "native", rows, {"m": entries}, width=4), config)
    older = FeatureDataset(write_original(tmp_path / "older", {"m": entries}, width=4, n_splits=1), config, tokens=rows)
    found = [list(FeatureLoader(rows, dataset)) for dataset in (native, older)]
    assert len(found[0]) == 3
    assert [repr(record) for record in found[0]] == [repr(record) for record in found[1]]
