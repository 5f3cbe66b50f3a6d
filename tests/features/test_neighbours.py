"""Neighbours by firing against slow counting of sets, whatever the blocks; and as files that belong to one cache."""

import math
import tracemalloc
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from sae_auto_interp.cache.reader import CacheReader
from sae_auto_interp.errors import CacheError, InputError
from sae_auto_interp.features.neighbours import Neighbours, load_neighbours
from sae_auto_interp.features.neighbours.cooccurrence import jaccard_neighbours, n_text_units, pmi_neighbours
from sae_auto_interp.features.neighbours.cosine import cosine_neighbours
from sae_auto_interp.types import NO_DOCUMENT, FeatureId
from tests.support.nearest import lists, random_vectors, ranked
from tests.support.records import Entry, plain_rows, write_cache

MODULE = "h.1"
CTX_LEN = 8


def firing(root: Path, units: Sequence[Iterable[int]], *, n_rows: int = 4, width: int | None = None) -> CacheReader:
    """A cache in which feature i fires on the tokens `units[i]`."""
    entries: list[Entry] = [
        (token // CTX_LEN, token % CTX_LEN, feature, 1.0) for feature, tokens in enumerate(units) for token in tokens
    ]
    write_cache(root, plain_rows(n_rows, CTX_LEN), {MODULE: entries}, width=width or len(units), n_splits=2)
    return CacheReader(root / MODULE)


# ------------------------------------------------------------------ firing together


def test_jaccard_of_three_features(tmp_path: Path) -> None:
    """PEERS check: a and b share 2 of 4 tokens; c shares none. A duplicate of a does not displace anything."""
    a, b, c = {1, 2, 3}, {2, 3, 4}, {9}
    assert lists(jaccard_neighbours(firing(tmp_path / "three", [a, b, c]), 2)) == [[(1, 0.5)], [(0, 0.5)], []]
    reader = firing(tmp_path / "four", [a, b, c, a])
    found = jaccard_neighbours(reader, 2)
    assert lists(found) == [[(3, 1.0), (1, 0.5)], [(0, 0.5), (3, 0.5)], [], [(0, 1.0), (1, 0.5)]]
    assert np.isnan(found[1][2]).all()


def test_pmi_of_three_features(tmp_path: Path) -> None:
    a, b, c = {1, 2, 3}, {2, 3, 4}, {3, 9}
    found = lists(pmi_neighbours(firing(tmp_path, [a, b, c]), 2, 32, min_count=1))
    assert found[0] == [(1, pytest.approx(math.log(32 * 2 / 9))), (2, pytest.approx(math.log(32 * 1 / 6)))]
    assert found[2] == [(0, pytest.approx(math.log(32 / 6))), (1, pytest.approx(math.log(32 / 6)))]


def test_rare_pairs_are_no_evidence_by_default(tmp_path: Path) -> None:
    """Two features that fired once, together, have the highest PMI there is; six shared tokens are asked for."""
    often, too = range(12), range(6, 18)
    reader = firing(tmp_path, [often, too, [20], [20]])
    assert [neighbours[0][0] if neighbours else None for neighbours in lists(pmi_neighbours(reader, 1, 32))] == [
        1,
        0,
        None,
        None,
    ]
    assert lists(pmi_neighbours(reader, 1, 32, min_count=1))[2] == [(3, pytest.approx(math.log(32)))]


token_sets = st.lists(st.sets(st.integers(0, 4 * CTX_LEN - 1), max_size=12), min_size=2, max_size=12)


@given(token_sets, st.integers(1, 4), st.sampled_from([1, 3, CTX_LEN]), st.integers(1, 3))
@settings(max_examples=40)
def test_firing_together_is_what_counting_sets_says(
    tmp_path_factory: pytest.TempPathFactory, tokens: list[set[int]], n: int, unit_tokens: int, min_count: int
) -> None:
    reader = firing(tmp_path_factory.mktemp("cache"), tokens)
    units = [{(t // CTX_LEN, t % CTX_LEN // unit_tokens) for t in fires} for fires in tokens]
    n_units = n_text_units(plain_rows(4, CTX_LEN).documents, unit_tokens)
    jaccard = jaccard_neighbours(reader, n, unit_tokens=unit_tokens, min_count=min_count)
    pmi = pmi_neighbours(reader, n, n_units, unit_tokens=unit_tokens, min_count=min_count)
    for feature, own in enumerate(units):
        pairs = {
            other: (len(own & theirs), len(own | theirs), len(theirs))
            for other, theirs in enumerate(units)
            if other != feature and len(own & theirs) >= min_count
        }
        by_jaccard = ranked({other: both / either for other, (both, either, _) in pairs.items()}, n)
        assert lists(jaccard)[feature] == [(other, pytest.approx(value)) for other, value in by_jaccard]
        conditional = ranked({other: both / theirs for other, (both, _, theirs) in pairs.items()}, n)
        by_pmi = [(other, math.log(value * n_units / len(own))) for other, value in conditional]
        assert lists(pmi)[feature] == [(other, pytest.approx(value, abs=1e-6)) for other, value in by_pmi]


@given(token_sets, st.integers(1, 4))
@settings(max_examples=25)
def test_blocks_and_the_choice_of_features_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, tokens: list[set[int]], n: int
) -> None:
    reader = firing(tmp_path_factory.mktemp("cache"), tokens)
    found = jaccard_neighbours(reader, n)
    backwards = list(range(len(tokens)))[::-1]
    for block_entries in (1, 7, 10_000):
        other = jaccard_neighbours(reader, n, block_entries=block_entries)
        assert [array.tobytes() for array in other] == [array.tobytes() for array in found]
        chosen = jaccard_neighbours(reader, n, features=backwards, block_entries=block_entries)
        assert [array.tobytes() for array in chosen] == [array[backwards].tobytes() for array in found]


@given(token_sets, st.data())
@settings(max_examples=25)
def test_neighbours_among_some_features_are_those_that_would_be_found_without_the_others(
    tmp_path_factory: pytest.TempPathFactory, tokens: list[set[int]], data: st.DataObject
) -> None:
    reader = firing(tmp_path_factory.mktemp("cache"), tokens)
    among = data.draw(st.lists(st.sampled_from(range(len(tokens))), unique=True))
    everyone = lists(jaccard_neighbours(reader, len(tokens)))
    found = lists(jaccard_neighbours(reader, 2, among=among))
    assert found == [[pair for pair in near if pair[0] in among][:2] for near in everyone]


def test_far_locations_do_not_wrap(tmp_path: Path) -> None:
    """Beyond 2^32 positions: the same places in the row, 2^32 tokens apart, are not the same token."""
    ctx_len, far = 1 << 20, (1 << 32) + 5
    reader = firing(tmp_path, [[5], [5], [5]])
    assert reader.statistics()["n_activations"].tolist() == [1, 1, 1]  # read while the manifest is still its own
    reader.manifest = replace(reader.manifest, ctx_len=ctx_len, n_rows=1 << 13)
    locations = {0: [5, far], 1: [5], 2: [far]}
    kept = reader.entries

    def entries(index: int):
        found = np.array(locations[index], dtype=np.int64)
        return replace(kept(index), locations=found, activations=np.ones(len(found), dtype=np.float32))

    reader.entries = entries  # pyright: ignore[reportAttributeAccessIssue]
    assert lists(jaccard_neighbours(reader, 3)) == [[(1, 0.5), (2, 0.5)], [(0, 0.5)], [(0, 0.5)]]
    assert lists(jaccard_neighbours(reader, 3, unit_tokens=ctx_len))[1] == [(0, 0.5)]


def test_memory_is_that_of_blocks_and_not_of_the_width_squared(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    width, n_rows = 4000, 100
    units = [rng.choice(n_rows * CTX_LEN, 8, replace=False) for _ in range(width)]
    reader = firing(tmp_path, [list(map(int, tokens)) for tokens in units], n_rows=n_rows)
    everything = jaccard_neighbours(reader, 5, features=range(50))
    tracemalloc.start()
    jaccard_neighbours(reader, 5, features=range(50), block_entries=2000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20, "counts of every pair would have 64 MiB"
    assert (everything[0] >= 0).all()


def test_units_with_text() -> None:
    documents = np.zeros((2, 7), dtype=np.int32)
    documents[0, 4:] = NO_DOCUMENT
    assert [n_text_units(documents, size) for size in (1, 2, 3, 7)] == [11, 6, 5, 2]


def test_more_units_than_there_are_is_a_mistake(tmp_path: Path) -> None:
    reader = firing(tmp_path, [range(10), range(10)])
    with pytest.raises(InputError, match="fires in 10 units, but n_units=9"):
        pmi_neighbours(reader, 1, 9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"n": 1, "unit_tokens": 0}, "unit_tokens=0"),
        ({"n": 1, "min_count": 0}, "min_count=0"),
        ({"n": 1, "block_entries": 0}, "block_entries=0"),
        ({"n": 1, "features": [4]}, "no feature 4"),
    ],
)
def test_wrong_questions_about_firing(tmp_path: Path, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        jaccard_neighbours(firing(tmp_path, [[1], [2]]), **arguments)


# ------------------------------------------------------------------ as files


def some_neighbours(reader: CacheReader) -> Neighbours:
    indices, values = jaccard_neighbours(reader, 2)
    features = np.arange(len(indices))
    return Neighbours(MODULE, "jaccard", reader.manifest.fingerprint, features, indices, values, 1, 1)


def test_saved_neighbours_come_back(tmp_path: Path) -> None:
    reader = firing(tmp_path / "cache", [{1, 2, 3}, {2, 3, 4}, {9}])
    saved = some_neighbours(reader)
    path = saved.save(tmp_path / "neighbours")
    assert path == tmp_path / "neighbours" / MODULE / "jaccard.safetensors"
    found = load_neighbours(tmp_path / "neighbours", reader.manifest, "jaccard")
    assert found.by_feature() == saved.by_feature()
    assert (found.kind, found.source, found.unit_tokens, found.min_count) == ("jaccard", saved.source, 1, 1)
    a, b, c = (FeatureId(MODULE, index) for index in range(3))
    assert found.by_feature() == {a: [(b, 0.5)], b: [(a, 0.5)], c: []}


def test_the_same_neighbours_are_the_same_bytes(tmp_path: Path) -> None:
    reader = firing(tmp_path / "cache", [{1, 2, 3}, {2, 3, 4}, {9}])
    paths = [some_neighbours(reader).save(tmp_path / name) for name in ("one", "other")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_neighbours_of_another_cache_are_refused(tmp_path: Path) -> None:
    reader = firing(tmp_path / "cache", [{1, 2}, {2}])
    some_neighbours(reader).save(tmp_path)
    with pytest.raises(CacheError, match="computed from other activations"):
        load_neighbours(tmp_path, replace(reader.manifest, fingerprint="another"), "jaccard")


def test_neighbours_of_other_weights_are_refused_and_more_text_changes_no_direction(tmp_path: Path) -> None:
    manifest = replace(firing(tmp_path / "cache", [{1, 2}, {2}]).manifest, weights_sha256="these")
    indices, values = cosine_neighbours(random_vectors(2, 4), 1)
    Neighbours(MODULE, "decoder", "these", np.arange(2), indices, values).save(tmp_path)
    assert load_neighbours(tmp_path, replace(manifest, fingerprint="more text"), "decoder").indices.tolist() == [
        [1],
        [0],
    ]
    with pytest.raises(CacheError, match="computed from other weights"):
        load_neighbours(tmp_path, replace(manifest, weights_sha256="those"), "decoder")


def test_missing_neighbours_say_what_to_run(tmp_path: Path) -> None:
    manifest = firing(tmp_path / "cache", [{1, 2}, {2}]).manifest
    with pytest.raises(CacheError, match=r"run `sae-auto-interp neighbours` with --kind pmi"):
        load_neighbours(tmp_path, manifest, "pmi")


@pytest.mark.parametrize("damage", ["truncated", "foreign", "without metadata", "renamed"])
def test_damaged_files_are_named(tmp_path: Path, damage: str) -> None:
    from safetensors.numpy import save_file

    reader = firing(tmp_path / "cache", [{1, 2}, {2}])
    path = some_neighbours(reader).save(tmp_path)
    kind = "jaccard"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-5])
    elif damage == "foreign":
        path.write_bytes(b"something else")
    elif damage == "without metadata":
        save_file({"features": np.arange(2)}, path)
    else:
        kind, path = "pmi", path.rename(path.with_name("pmi.safetensors"))
    with pytest.raises(CacheError, match=str(path)):
        load_neighbours(tmp_path, reader.manifest, kind)
