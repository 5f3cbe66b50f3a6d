"""Converting loses nothing: whatever the layouts, the same entries, values to the bit, and tokens come back."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from safetensors.numpy import load_file
from typer.testing import CliRunner

from sae_auto_interp.cache.older import convert, writer
from sae_auto_interp.cache.older.convert import convert_cache
from sae_auto_interp.cache.opening import open_caches, stored_tokens
from sae_auto_interp.cache.tokens import save_tokens
from sae_auto_interp.cli import app
from sae_auto_interp.errors import CacheError, InputError, UnknownNameError
from sae_auto_interp.features import FeatureDataset, Vocabulary
from sae_auto_interp.types import TokenRows
from tests.support.records import (
    Entry,
    directory_bytes,
    make_rows,
    plain_rows,
    write_cache,
    write_original,
)

WRITTEN = Path(__file__).parent / "written_by_delphi"
EXPECTED = json.loads((WRITTEN / "expected.json").read_text())
ROWS = plain_rows(6, 4)
ENTRIES: list[Entry] = [(r, p, f, 0.5 + f + r) for r in range(6) for p in (0, 3) for f in (0, 1, 4, 5, 9)]


def all_entries(root: Path, **known: Any) -> dict[str, list[Entry]]:
    dataset = FeatureDataset(root, verify=True, **known)
    entries: dict[str, list[Entry]] = {path: [] for path in dataset.readers}
    for found in dataset:
        module, index = found.feature.module_path, found.feature.index
        row, position = np.divmod(found.locations, dataset.readers[module].manifest.ctx_len)
        places = zip(row.tolist(), position.tolist(), found.activations.tolist(), strict=True)
        entries[module] += [(r, p, index, value) for r, p, value in places]
    return entries


def native(
    root: Path,
    rows: TokenRows = ROWS,
    entries: Mapping[str, list[Entry]] | None = None,
    *,
    width: int = 10,
    n_splits: int = 3,
    dtype: str = "float32",
) -> Path:
    """A finished cache of our own with its tokens beside it."""
    write_cache(root, rows, entries or {"m": ENTRIES}, width=width, n_splits=n_splits, dtype=dtype)
    save_tokens(root / "tokens.safetensors", rows)
    return root


def assert_same_rows(found: TokenRows | None, rows: TokenRows) -> None:
    assert found is not None
    assert np.array_equal(found.tokens, rows.tokens)
    assert np.array_equal(found.documents, rows.documents)
    assert found.document_names == rows.document_names


@settings(max_examples=25)
@given(data=st.data())
def test_there_and_back_is_the_same_cache(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """native -> delphi or original -> native, whatever the splits: entries, statistics, tokens and documents."""
    root = tmp_path_factory.mktemp("caches")
    n_rows, ctx_len, width = (data.draw(st.integers(1, n)) for n in (9, 6, 12))
    rows = make_rows(n_rows, ctx_len) if ctx_len > 1 else plain_rows(n_rows, ctx_len)
    place = st.tuples(st.integers(0, n_rows - 1), st.integers(0, ctx_len - 1), st.integers(0, width - 1))
    to = data.draw(st.sampled_from(["delphi", "original"]))
    dtype = "float16" if to == "delphi" else data.draw(st.sampled_from(["float16", "bfloat16", "float32"]))
    value = st.integers(1, 255).map(lambda eighths: eighths / 8)  # exact in all three types
    entries = {
        module: [(*found, data.draw(value)) for found in sorted(data.draw(st.sets(place, max_size=20)))]
        for module in ("layers.1", "layers.10")
    }
    splits = st.integers(1, width)
    first = native(root / "a", rows, entries, width=width, n_splits=data.draw(splits), dtype=dtype)
    convert_cache(first, root / "b", to, n_splits=data.draw(splits))
    convert_cache(root / "b", root / "c", "native", n_splits=data.draw(splits))
    assert all_entries(root / "a") == all_entries(root / "b") == all_entries(root / "c")
    for before, after in zip(open_caches(root / "a").values(), open_caches(root / "c").values(), strict=True):
        assert before.manifest.activation_dtype == after.manifest.activation_dtype == dtype
        assert before.manifest.rows == after.manifest.rows
        for name, array in before.statistics().items():
            assert np.array_equal(array, after.statistics()[name]), name
    for name in "bc":
        assert_same_rows(stored_tokens(root / name, open_caches(root / name)), rows)


def test_what_delphi_wrote_becomes_a_finished_cache(tmp_path: Path) -> None:
    found = convert_cache(WRITTEN / "latents", tmp_path / "native", "native")
    assert found == {module: tmp_path / "native" / module for module in ("layers.1", "layers.10", "wide")}
    assert {path: sorted(entries) for path, entries in all_entries(tmp_path / "native").items()} == {
        path: sorted(map(tuple, entries)) for path, entries in EXPECTED["entries"].items() if path in found
    }
    dataset = FeatureDataset(tmp_path / "native", verify=True)
    assert dataset.tokens is not None
    assert dataset.tokens.tokens.tolist() == EXPECTED["tokens"]
    manifest = dataset.readers["layers.10"].manifest
    assert (manifest.model, manifest.data, manifest.weights_sha256) == ("some/model", "some/texts", "")
    assert (manifest.configuration, manifest.width, manifest.n_rows, manifest.ctx_len) == ("", 7, 8, 12)
    assert "unknown" in manifest.autoencoder
    assert len({reader.manifest.fingerprint for reader in dataset.readers.values()}) == 3
    assert not list(tmp_path.glob(".*")), "no work is left beside it"


def test_what_we_write_for_delphi_is_what_it_writes_itself(tmp_path: Path) -> None:
    """The same files with the same arrays, but for the order of entries; delphi sorts them as it reads."""
    convert_cache(WRITTEN / "latents", tmp_path / "native", "native")
    convert_cache(tmp_path / "native", tmp_path / "delphi", "delphi")
    theirs, ours = (sorted(root.rglob("*.safetensors")) for root in (WRITTEN / "latents", tmp_path / "delphi"))
    assert [path.name for path in theirs] == [path.name for path in ours]
    for their_file, our_file in zip(theirs, ours, strict=True):
        wanted, found = load_file(their_file), load_file(our_file)
        assert {name: array.dtype for name, array in wanted.items()}.items() <= {
            name: array.dtype for name, array in found.items()
        }.items()
        assert np.array_equal(wanted["tokens"], found["tokens"])
        orders = [np.lexsort(arrays["locations"].T) for arrays in (wanted, found)]
        for name in ("locations", "activations"):
            assert np.array_equal(wanted[name][orders[0]], found[name][orders[1]])
    configs = [
        json.loads((root / "wide" / "config.json").read_text()) for root in (WRITTEN / "latents", ours[-1].parents[1])
    ]
    assert all(
        configs[0][name] == configs[1][name] for name in ("model_name", "dataset_repo", "cache_ctx_len", "batch_size")
    )
    assert sorted(path.name for path in (tmp_path / "delphi").iterdir()) == ["layers.1", "layers.10", "wide"]


def test_the_original_layout_has_absolute_features_and_files_of_equal_shares(tmp_path: Path) -> None:
    source = native(tmp_path / "a", entries={"m": ENTRIES, "dead": []})
    Vocabulary((b"a", b"b")).save(source)
    convert_cache(source, tmp_path / "b", "original", n_splits=4)
    files = sorted((tmp_path / "b" / "m").iterdir())
    assert [path.name for path in files] == ["0_1.safetensors", "2_4.safetensors", "5_6.safetensors", "7_9.safetensors"]
    arrays = [load_file(path) for path in files]
    found = [
        (*map(int, place), float(v)) for a in arrays for place, v in zip(a["locations"], a["activations"], strict=True)
    ]
    assert sorted(found) == ENTRIES
    assert {array["locations"].dtype for array in arrays} == {np.dtype(np.int64)}
    assert load_file(tmp_path / "b" / "dead" / "7_9.safetensors")["locations"].shape == (0, 3)
    assert_same_rows(FeatureDataset(tmp_path / "b").tokens, ROWS)
    convert_cache(tmp_path / "b", tmp_path / "c", "native")
    assert FeatureDataset(tmp_path / "c").vocabulary == Vocabulary((b"a", b"b"))


@pytest.mark.parametrize(("given", "said"), [(None, 32), (7, 7)])
def test_the_batch_size_is_said_for_delphi(given: int | None, said: int, tmp_path: Path) -> None:
    """Its own tests ask for the field, which decides nothing."""
    source = native(tmp_path / "a", dtype="float16")
    convert_cache(source, tmp_path / "b", "delphi", batch_size=given)
    config = json.loads(next((tmp_path / "b").glob("*/config.json")).read_text())
    assert config["batch_size"] == said
    assert FeatureDataset(tmp_path / "b").features == FeatureDataset(source).features


def test_what_does_not_fit_16_bits_is_written_for_delphi_with_32(tmp_path: Path) -> None:
    entries = [(0, 0, 0, 1.0), (5, 3, 65_536, 2.0)]
    source = native(tmp_path / "a", entries={"m": entries}, width=65_537, n_splits=1, dtype="float16")
    for n_splits, dtype in ((1, np.uint32), (2, np.uint16)):
        root = tmp_path / str(n_splits)
        convert_cache(source, root, "delphi", n_splits=n_splits)
        assert {load_file(path)["locations"].dtype for path in root.rglob("*.safetensors")} == {np.dtype(dtype)}
        assert all_entries(root)["m"] == entries


def test_digits_are_lost_only_when_asked_for(tmp_path: Path) -> None:
    entries = [(0, 0, 0, 1 / 3), (1, 2, 3, 1e-9), (5, 3, 3, 2.5)]
    source = native(tmp_path / "a", entries={"m": entries})
    with pytest.raises(InputError, match="has float32 activations and delphi's layout float16"):
        convert_cache(source, tmp_path / "b", "delphi")
    convert_cache(source, tmp_path / "b", "delphi", activation_dtype="float16")
    values = [value for *_, value in all_entries(tmp_path / "b")["m"]]
    assert values == [float(np.float16(1 / 3)), 2.0**-24, 2.5], "what would vanish is the smallest number there is"
    convert_cache(tmp_path / "b", tmp_path / "c", "native", activation_dtype="float32")
    assert all_entries(tmp_path / "c") == all_entries(tmp_path / "b")
    manifests = [open_caches(tmp_path / name)["m"].manifest for name in "bc"]
    assert manifests[0].fingerprint != manifests[1].fingerprint
    large = native(tmp_path / "large", entries={"m": [(0, 0, 0, 1e6)]})
    with pytest.raises(CacheError, match="1e\\+06 does not fit float16"):
        convert_cache(large, tmp_path / "d", "delphi", activation_dtype="float16")
    with pytest.raises(InputError, match="float8"):
        convert_cache(source, tmp_path / "d", "original", activation_dtype="float8")
    assert not list(tmp_path.glob("*d*"))


def test_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    source = write_original(tmp_path / "a", {"m": ENTRIES}, width=10)
    with pytest.raises(InputError, match="pass the tokens that were cached, or ctx_len"):
        convert_cache(source, tmp_path / "b", "native")
    with pytest.raises(InputError, match="delphi reads the tokens from its shards"):
        convert_cache(source, tmp_path / "b", "delphi", ctx_len=4)
    with pytest.raises(UnknownNameError, match="did you mean 'native'"):
        convert_cache(source, tmp_path / "b", "nativ")
    with pytest.raises(InputError, match="there is no directory"):
        convert_cache(tmp_path / "nowhere", tmp_path / "b", "native")
    convert_cache(source, tmp_path / "b", "native", ctx_len=4)
    assert stored_tokens(tmp_path / "b", open_caches(tmp_path / "b")) is None
    kept = [entry for entry in ENTRIES if entry[2] not in (4, 9)]
    assert sorted(all_entries(tmp_path / "b")["m"]) == kept
    more = plain_rows(9, 4)
    convert_cache(source, tmp_path / "c", "delphi", tokens=more, activation_dtype="float16")
    stored = FeatureDataset(tmp_path / "c").tokens
    assert stored is not None
    assert np.array_equal(stored.tokens, more.tokens[:6]), "rows that were not cached are not claimed to be silent"
    with pytest.raises(InputError, match="is in the native layout already"):
        convert_cache(tmp_path / "b", tmp_path / "d", "native")


def test_tokens_that_are_not_those_of_the_cache_are_refused(tmp_path: Path) -> None:
    source = native(tmp_path / "a", dtype="float16")
    other = TokenRows.from_ids(ROWS.tokens[::-1])
    for tokens in (other, plain_rows(5, 4), plain_rows(6, 5)):
        with pytest.raises(InputError, match="m was cached over"):
            convert_cache(source, tmp_path / "b", "delphi", tokens=tokens)
    save_tokens(source / "tokens.safetensors", other)
    with pytest.raises(InputError, match="cached over other tokens than these"):
        convert_cache(source, tmp_path / "b", "delphi")
    convert_cache(source, tmp_path / "b", "delphi", tokens=ROWS)


def test_a_run_directory_is_a_source_too(tmp_path: Path) -> None:
    native(tmp_path / "run" / "features", dtype="float16")
    (tmp_path / "run" / "features" / "tokens.safetensors").rename(tmp_path / "run" / "tokens.safetensors")
    convert_cache(tmp_path / "run", tmp_path / "b", "delphi")
    assert sorted(all_entries(tmp_path / "b")["m"]) == ENTRIES
    assert_same_rows(FeatureDataset(tmp_path / "b").tokens, ROWS)


def test_a_directory_that_holds_something_is_left_as_it_is(tmp_path: Path) -> None:
    source = native(tmp_path / "a")
    (tmp_path / "b").mkdir()
    convert_cache(source, tmp_path / "b", "original")
    before = directory_bytes(tmp_path / "b")
    for destination in (tmp_path / "b", source):
        with pytest.raises(InputError, match="exists and is not empty"):
            convert_cache(source, destination, "original")
    assert directory_bytes(tmp_path / "b") == before


@pytest.mark.parametrize("to", ["native", "delphi", "original"])
def test_an_interrupted_conversion_leaves_nothing_that_looks_finished(
    to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = native(tmp_path / "n", dtype="float16", entries={"a": ENTRIES, "b": ENTRIES})
    if to == "native":
        convert_cache(source, tmp_path / "source", "delphi")
        source = tmp_path / "source"
    before = {path.name for path in tmp_path.iterdir()}
    name = "merge_into_cache" if to == "native" else "write_older"
    write, n_calls = getattr(convert, name), 0

    def interrupted(*arguments: Any, **named: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 2:
            raise KeyboardInterrupt
        return write(*arguments, **named)

    monkeypatch.setattr(convert, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert_cache(source, tmp_path / "out", to)
    assert {path.name for path in tmp_path.iterdir()} == before
    (tmp_path / ".out.partial" / "left by a kill").mkdir(parents=True)
    convert_cache(source, tmp_path / "out", to)
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == ["a", "b"]
    assert {path.name for path in tmp_path.iterdir()} == {*before, "out"}


def test_the_size_of_blocks_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = native(tmp_path / "a", dtype="float16")
    for block in (1, 7, 1 << 20):
        monkeypatch.setattr(writer, "BLOCK_ENTRIES", block)
        for to in ("delphi", "original"):
            convert_cache(source, tmp_path / f"{to}{block}", to)
    for to in ("delphi", "original"):
        first, *others = (directory_bytes(tmp_path / f"{to}{block}") for block in (1, 7, 1 << 20))
        assert all(other == first for other in others)


def test_the_command_converts_there_and_back(tmp_path: Path) -> None:
    source = write_original(tmp_path / "a", {"layers.1": ENTRIES, "layers.10": ENTRIES}, width=10)
    np.save(tmp_path / "ids.npy", ROWS.tokens)
    run = CliRunner()
    options = ["--to", "delphi", "--tokens", str(tmp_path / "ids.npy"), "--activation-dtype", "float16"]
    done = run.invoke(app, ["convert", str(source), str(tmp_path / "b"), *options, "--n-splits", "5"])
    assert (done.exit_code, done.stdout) == (0, f"2 modules are in {tmp_path / 'b'}: layers.1, layers.10\n")
    assert len(list((tmp_path / "b" / "layers.10").glob("*.safetensors"))) == 5
    done = run.invoke(app, ["convert", str(tmp_path / "b"), str(tmp_path / "c"), "--to", "native"])
    assert done.exit_code == 0
    assert all_entries(tmp_path / "c") == all_entries(source, ctx_len=4)
    done = run.invoke(app, ["convert", str(tmp_path / "b"), str(tmp_path / "c"), "--to", "native"])
    assert isinstance(done.exception, InputError)
