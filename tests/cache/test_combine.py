"""Caches over different rows combine into the files that one run over all the rows writes."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sae_auto_interp.cache.combine import combine_caches
from sae_auto_interp.cache.fingerprints import joined_hash, rows_hash
from sae_auto_interp.cache.layout import MANIFEST, STATISTICS, TOKENS, VOCABULARY
from sae_auto_interp.cache.reader import CacheReader
from sae_auto_interp.cli import app
from sae_auto_interp.errors import CacheError, InputError
from sae_auto_interp.features import CacheOptions, FeatureCache, FeatureDataset
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.types import NO_DOCUMENT, TokenRows
from tests.support.records import Entry, directory_bytes, make_rows, plain_rows, tiny_world, write_cache

N_ROWS, CTX_LEN = 10, 8
NOT_IN_FORMAT_1 = ("configuration", "rows", "statistics_sha256", "sha256")


@pytest.fixture(scope="module")
def world() -> tuple[Any, dict[str, Any]]:
    return tiny_world()


def some(rows: TokenRows, first: int, last: int) -> TokenRows:
    """Rows of the whole as a text of their own: documents counted from the first."""
    documents = rows.documents[first:last]
    present = sorted(set(documents[documents != NO_DOCUMENT].tolist()))
    low, high = present[0], present[-1]
    own = np.where(documents == NO_DOCUMENT, documents, documents - low).astype(np.int32)
    return TokenRows(rows.tokens[first:last], own, rows.document_names[low : high + 1])


def cached(
    world: tuple[Any, dict[str, Any]],
    rows: TokenRows,
    directory: Path,
    n_splits: int = 3,
    activation_dtype: str = "float16",
) -> Path:
    options = CacheOptions(activation_dtype=activation_dtype)
    cache = FeatureCache(*world, batch_size=1, options=options)
    cache.run(tokens=rows)
    cache.save_splits(n_splits, directory)
    return directory


def as_run(directory: Path, rows: TokenRows) -> Path:
    """A run directory of what is in `directory/features`."""
    RunDirectory(directory).save_tokens(rows)
    return directory


@pytest.mark.parametrize(
    ("cuts", "activation_dtype"),
    [((0, 4, 10), "float16"), ((0, 2, 8, 10), "float32"), ((0, 2, 4, 6, 8, 10), "float16")],
)
def test_combined_runs_are_one_run_over_all_rows_byte_for_byte(
    cuts: tuple[int, ...], activation_dtype: str, world: tuple[Any, dict[str, Any]], tmp_path: Path
) -> None:
    rows = make_rows(N_ROWS, CTX_LEN, bos=0)
    whole = tmp_path / "whole"
    cached(world, rows, whole / "features", activation_dtype=activation_dtype)
    as_run(whole, rows)
    parts = [some(rows, first, last) for first, last in pairwise(cuts)]
    sources: list[Path] = []
    for number, part in enumerate(parts):
        root = tmp_path / str(number)
        cached(world, part, root / "features", n_splits=1 + number, activation_dtype=activation_dtype)
        sources.append(as_run(root, part))
    manifests = combine_caches(sources, tmp_path / "merged", n_splits=3)
    expected = directory_bytes(whole)
    names = load_file(whole / TOKENS)["document_names"].tobytes().split(b"\0")
    n_used = 1 + int(rows.documents.max())
    found = directory_bytes(tmp_path / "merged")
    assert {name: content for name, content in found.items() if name != TOKENS} == {
        name: content for name, content in expected.items() if name != TOKENS
    }
    loaded, original = RunDirectory(tmp_path / "merged").load_tokens(), RunDirectory(whole).load_tokens()
    np.testing.assert_array_equal(loaded.tokens, original.tokens)
    np.testing.assert_array_equal(loaded.documents, original.documents)
    assert [name.encode() for name in loaded.document_names] == names[:n_used]
    assert manifests == {module: CacheReader(whole / "features" / module).manifest for module in world[1]}


def test_the_same_order_of_sources_is_the_order_of_rows(world: tuple[Any, dict[str, Any]], tmp_path: Path) -> None:
    rows = make_rows(N_ROWS, CTX_LEN)
    a, b = (cached(world, some(rows, *cut), tmp_path / str(cut[0])) for cut in ((0, 4), (4, 10)))
    combine_caches([b, a], tmp_path / "merged")
    swapped = TokenRows.from_ids(np.concatenate([rows.tokens[4:], rows.tokens[:4]]))
    documents = np.concatenate([rows.documents[4:], rows.documents[:4]])
    expected = cached(world, TokenRows(swapped.tokens, documents, rows.document_names), tmp_path / "expected")
    assert directory_bytes(tmp_path / "merged") == directory_bytes(expected)


def test_merging_in_steps_is_merging_at_once_and_may_be_repeated(
    world: tuple[Any, dict[str, Any]], tmp_path: Path
) -> None:
    rows = make_rows(N_ROWS, CTX_LEN)
    sources = [cached(world, some(rows, a, b), tmp_path / str(a)) for a, b in ((0, 2), (2, 6), (6, 10))]
    combine_caches(sources[:2], tmp_path / "two")
    combine_caches([tmp_path / "two", sources[2]], tmp_path / "steps")
    for _ in range(2):
        combine_caches(sources, tmp_path / "once")
        assert directory_bytes(tmp_path / "steps") == directory_bytes(tmp_path / "once")
    (tmp_path / "once" / "transformer.h.0" / MANIFEST).unlink()
    (tmp_path / "once" / "transformer.h.0" / STATISTICS).write_bytes(b"half")
    combine_caches(sources, tmp_path / "once")
    assert directory_bytes(tmp_path / "steps") == directory_bytes(tmp_path / "once")


@pytest.mark.parametrize("n_rows", [64, 65, 130])
def test_locations_are_widened(n_rows: int, tmp_path: Path) -> None:
    """Each source fits 16 bits; both together do not."""
    rows = plain_rows(n_rows, 1024)
    rng = np.random.default_rng(0)
    cells = sorted(rng.choice(n_rows * 1024, 200, replace=False).tolist())
    entries: list[Entry] = [(cell // 1024, cell % 1024, cell % 4, 1.0 + cell % 7) for cell in cells]
    cut = n_rows // 2
    write_cache(tmp_path / "whole", rows, {"m": entries}, width=4)
    write_cache(tmp_path / "a", some(rows, 0, cut), {"m": [e for e in entries if e[0] < cut]}, width=4, n_splits=1)
    moved: list[Entry] = [(row - cut, place, feature, value) for row, place, feature, value in entries if row >= cut]
    write_cache(tmp_path / "b", some(rows, cut, n_rows), {"m": moved}, width=4, n_splits=2)
    combine_caches([tmp_path / "a", tmp_path / "b"], tmp_path / "merged", n_splits=4)
    assert directory_bytes(tmp_path / "merged" / "m") == directory_bytes(tmp_path / "whole" / "m")


def test_rows_far_beyond_32_bits_are_moved_and_not_wrapped(tmp_path: Path) -> None:
    """Two caches of 2^33 positions, hand-made: nothing holds that many rows."""
    manifest: dict[str, Any] = {}
    for name in ("a", "b"):
        write_cache(tmp_path / name, plain_rows(2, 4, seed=ord(name)), {"m": [(0, 1, 0, 1.0), (1, 3, 0, 2.0)]}, width=1)
        path = tmp_path / name / "m" / MANIFEST
        fields = json.loads(path.read_text()) | {"n_rows": 2**31, "location_dtype": "uint64"}
        manifest[name] = fields
        _save(tmp_path / name / "m", np.array([1, 7 + 2**33 - 8], np.uint64), fields)
    combine_caches([tmp_path / "a", tmp_path / "b"], tmp_path / "merged")
    reader = CacheReader(tmp_path / "merged" / "m", verify=True)
    assert reader.entries(0).locations.tolist() == [1, 2**33 - 1, 2**33 + 1, 2**34 - 1]
    assert reader.statistics()["n_active_rows"].tolist() == [4]


def _save(directory: Path, locations: Any, fields: dict[str, Any]) -> None:
    from sae_auto_interp.cache.files import sha256_of
    from sae_auto_interp.types import CacheManifest, ShardInfo

    arrays = load_file(directory / "0_0.safetensors")
    save_file(arrays | {"locations": locations}, directory / "0_0.safetensors")
    counts = load_file(directory / STATISTICS)
    counts |= {name: counts[name].astype(np.uint64) for name in ("n_activations", "n_active_rows")}
    save_file(counts, directory / STATISTICS)
    del fields["sha256"]
    shard = ShardInfo("0_0.safetensors", 0, 0, 2, sha256_of(directory / "0_0.safetensors"))
    fields |= {"shards": (shard,), "statistics_sha256": sha256_of(directory / STATISTICS)}
    (directory / MANIFEST).write_text(CacheManifest(**fields).to_json())


def test_another_configuration_is_refused(world: tuple[Any, dict[str, Any]], tmp_path: Path) -> None:
    rows = make_rows(N_ROWS, CTX_LEN)
    first, rest = some(rows, 0, 4), some(rows, 4, 10)
    a = cached(world, first, tmp_path / "a")
    others = {
        "activation_dtype": lambda path: cached(world, rest, path, activation_dtype="float32"),
        "weights": lambda path: cached(tiny_world(seed=1), rest, path),
        "ctx_len": lambda path: cached(world, TokenRows.from_ids(rest.tokens[:, :5]), path),
    }
    for name, make in others.items():
        with pytest.raises(CacheError, match=f"has another {name}.* only runs of the same configuration"):
            combine_caches([a, make(tmp_path / name)], tmp_path / "out")
    filtered = FeatureCache(*world, batch_size=1, filters={"transformer.h.0": [1, 2]})
    filtered.run(tokens=rest)
    filtered.save_splits(3, tmp_path / "filtered")
    with pytest.raises(CacheError, match="has another model, autoencoder settings, set of modules or filters"):
        combine_caches([a, tmp_path / "filtered"], tmp_path / "out")
    one_module = world[0], {"transformer.h.0": world[1]["transformer.h.0"]}
    with pytest.raises(CacheError, match=r"holds transformer.h.0, but .* merge runs over the same modules"):
        combine_caches([a, cached(one_module, rest, tmp_path / "one")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_a_source_is_refused(world: tuple[Any, dict[str, Any]], tmp_path: Path) -> None:
    rows = make_rows(N_ROWS, CTX_LEN)
    a, b = (cached(world, some(rows, *cut), tmp_path / str(cut[0])) for cut in ((0, 4), (4, 10)))
    with pytest.raises(InputError, match="merging needs two caches or more; 1 given"):
        combine_caches([a], tmp_path / "out")
    with pytest.raises(CacheError, match=r"holds the same rows as .*; give each once"):
        combine_caches([a, b, a], tmp_path / "out")
    with pytest.raises(CacheError, match="is one of the sources"):
        combine_caches([a, b], b)
    with pytest.raises(CacheError, match="holds no cache"):
        combine_caches([a, tmp_path / "nowhere"], tmp_path / "out")
    shard = b / "transformer.h.0" / "0_12.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(CacheError, match=r"0_12\.safetensors is damaged: its checksum"):
        combine_caches([a, b], tmp_path / "out")
    (b / "transformer.h.0" / MANIFEST).unlink()
    with pytest.raises(CacheError, match=r"transformer.h.0 holds no finished cache"):
        combine_caches([a, b], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_whose_cache_is_not_finished_is_refused(tmp_path: Path) -> None:
    """Both lack the same modules: nothing else would tell."""
    for name in ("a", "b"):
        rows = plain_rows(2, 4, seed=ord(name))
        write_cache(tmp_path / name / "features", rows, {"m": [(0, 1, 0, 1.0)]}, width=2)
        as_run(tmp_path / name, rows)
    unfinished = RunDirectory(tmp_path / "b").unfinished
    unfinished.mkdir()
    with pytest.raises(CacheError, match=r"b is not finished .*; run its cache stage again"):
        combine_caches([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    unfinished.rmdir()
    neighbours = tmp_path / "b" / "features" / "neighbours" / "m"
    neighbours.mkdir(parents=True)
    (neighbours / "cosine.safetensors").touch()
    combine_caches([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "features").iterdir() if path.is_dir()) == ["m"]


def test_another_cache_at_the_destination_is_kept(tmp_path: Path) -> None:
    for name in ("a", "b", "other"):
        write_cache(tmp_path / name, plain_rows(2, 4, seed=ord(name[0])), {"m": [(0, 1, 0, 1.0)]}, width=2)
    before = directory_bytes(tmp_path / "other" / "m")
    with pytest.raises(CacheError, match="holds another cache; choose another directory"):
        combine_caches([tmp_path / "a", tmp_path / "b"], tmp_path / "other")
    assert directory_bytes(tmp_path / "other" / "m") == before


def test_a_run_at_the_destination_keeps_its_tokens_too(tmp_path: Path) -> None:
    """Nothing is written before it is known that everything may be."""
    for name in ("a", "b", "other"):
        rows = plain_rows(2, 4, seed=ord(name[0]))
        write_cache(tmp_path / name / "features", rows, {"m": [(0, 1, 0, 1.0)]}, width=2)
        RunDirectory(tmp_path / name).save_tokens(rows)
    before = directory_bytes(tmp_path / "other")
    with pytest.raises(CacheError, match="holds another cache; choose another directory"):
        combine_caches([tmp_path / "a", tmp_path / "b"], tmp_path / "other")
    assert directory_bytes(tmp_path / "other") == before


def test_the_same_merge_again_is_the_same_or_says_why_not(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_cache(tmp_path / name, plain_rows(2, 4, seed=ord(name)), {"m": [(0, 1, 0, 1.0)]}, width=6, n_splits=2)
    sources, out = [tmp_path / "a", tmp_path / "b"], tmp_path / "out"
    first = combine_caches(sources, out)
    assert combine_caches(sources, out) == first
    with pytest.raises(CacheError, match="holds this cache in 2 shards; choose another directory"):
        combine_caches(sources, out, n_splits=3)
    shard = out / "m" / first["m"].shards[0].file
    shard.write_bytes(shard.read_bytes()[:-1] + b"!")
    with pytest.raises(CacheError, match="is damaged"):
        combine_caches(sources, out)


def test_vocabularies_and_tokens_must_fit(tmp_path: Path) -> None:
    rows = {name: plain_rows(2, 4, seed=ord(name)) for name in "abc"}
    for name, own in rows.items():
        write_cache(tmp_path / name / "features", own, {"m": [(0, 1, 0, 1.0)]}, width=2)
        (tmp_path / name / "features" / VOCABULARY).write_bytes(b"strings" if name != "c" else b"others")
    a, b, c = (tmp_path / name for name in "abc")
    with pytest.raises(CacheError, match="merge runs of the same tokenizer"):
        combine_caches([a, c], tmp_path / "out")
    as_run(a, rows["a"])
    with pytest.raises(CacheError, match=r"b has no tokens.safetensors beside its cache, as the others have"):
        combine_caches([a, b], tmp_path / "out")
    as_run(b, rows["c"])
    with pytest.raises(CacheError, match=r"does not hold the rows that .* was cached from"):
        combine_caches([a, b], tmp_path / "out")
    as_run(b, rows["b"])
    combine_caches([a, b], tmp_path / "out")
    assert (tmp_path / "out" / "features" / VOCABULARY).read_bytes() == b"strings"
    found = RunDirectory(tmp_path / "out").load_tokens()
    assert found.document_names == ("row 0", "row 1", "row 0", "row 1")
    assert found.documents[:, 0].tolist() == [0, 1, 2, 3]


def test_the_hash_of_rows_follows_from_those_of_its_parts() -> None:
    rows = make_rows(9, 5)
    whole = rows_hash(rows.tokens, rows.documents)
    for cut in range(10):
        first = rows_hash(rows.tokens[:cut], rows.documents[:cut])
        rest = rows_hash(rows.tokens[cut:], rows.documents[cut:])
        assert joined_hash([(first, cut), (rest, 9 - cut)]) == whole
        assert rows_hash(rows.tokens[cut:], rows.documents[cut:], first) == whole
    other = rows.tokens.copy()
    other[3, 2] += 1
    assert rows_hash(other, rows.documents) != whole
    assert rows_hash(rows.tokens[::-1], rows.documents[::-1]) != whole
    padded = rows.documents.copy()
    padded[0, -1] = NO_DOCUMENT
    assert rows_hash(rows.tokens, padded) != whole
    assert rows_hash(rows.tokens, np.where(rows.documents >= 0, rows.documents + 7, -1).astype(np.int32)) == whole


def test_the_command_merges_and_says_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        write_cache(tmp_path / name, plain_rows(2, 4, seed=ord(name)), {"m": [(0, 1, 0, 1.0)]}, width=2)
    app(["merge", *(str(tmp_path / n) for n in "ab"), "--out", str(tmp_path / "out")], standalone_mode=False)
    assert f"4 rows of 1 modules are in {tmp_path / 'out'}" in capsys.readouterr().out
    dataset = FeatureDataset(tmp_path / "out")
    assert [(str(found.feature), found.locations.tolist()) for found in dataset] == [("m:0", [1, 9])]


def test_a_cache_that_does_not_say_how_it_was_made_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_cache(tmp_path / name, plain_rows(2, 4, seed=ord(name)), {"m": [(0, 1, 0, 1.0)]}, width=2)
    path = tmp_path / "b" / "m" / MANIFEST
    fields = json.loads(path.read_text()) | {"format_version": 1}
    path.write_text(json.dumps({name: value for name, value in fields.items() if name not in NOT_IN_FORMAT_1}))
    with pytest.raises(CacheError, match=r"b/m does not say how it was made \(it was converted, or is of format 1\)"):
        combine_caches([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
