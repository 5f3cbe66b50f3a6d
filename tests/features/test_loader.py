"""Records over made-up caches: disjoint, aligned with the text, verified silent, and the same whatever the order."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from sae_auto_interp.cache.reader import CacheReader
from sae_auto_interp.errors import CacheError, InputError, UnknownNameError
from sae_auto_interp.features import FeatureConfig, FeatureDataset, FeatureLoader, Vocabulary
from sae_auto_interp.features.config import Sampling
from sae_auto_interp.types import NO_DOCUMENT, Array, Example, Failure, FeatureId, FeatureRecord, TokenRows
from tests.support.records import Entry, make_rows, plain_rows, write_cache

WINDOW = 8
MODULE = "transformer.h.1"
SAMPLINGS = get_args(Sampling)
SIZES = (90, 300, 1000, 5000)


def config(**settings: Any) -> FeatureConfig:
    defaults: dict[str, Any] = {"window": WINDOW, "n_train": 40, "n_test": 50, "min_examples": 20}
    return FeatureConfig(**defaults | settings)


def documents_of(rows_per_document: int, rows: TokenRows) -> TokenRows:
    documents = np.repeat(np.arange(rows.n_rows) // rows_per_document, rows.ctx_len).reshape(rows.tokens.shape)
    names = tuple(f"d{i}" for i in range(rows.n_rows))
    return TokenRows(rows.tokens, documents.astype(np.int32), names)


def dense(entries: list[Entry], rows: TokenRows, feature: int) -> Array:
    found = np.zeros(rows.tokens.shape, np.float32)
    for row, position, index, value in entries:
        if index == feature:
            found[row, position] = value
    return found


def in_windows(rng: np.random.Generator, rows: TokenRows, n_windows: int, feature: int) -> list[Entry]:
    """Entries of a feature that fires in exactly so many windows, one to three times in each, heavy-tailed."""
    per_row = rows.ctx_len // WINDOW
    found: list[Entry] = []
    for w in rng.choice(rows.n_rows * per_row, n_windows, replace=False).tolist():
        row, start = w // per_row, w % per_row * WINDOW
        places = rng.choice(WINDOW, int(rng.integers(1, 4)), replace=False).tolist()
        found += [(row, start + place, feature, float(np.float32(rng.pareto(1.5) + 0.01))) for place in places]
    return found


def windows_of(examples: tuple[Example, ...]) -> set[tuple[int, int]]:
    return {(example.row, example.start) for example in examples}


def texts_of(examples: tuple[Example, ...]) -> set[bytes]:
    return {example.tokens.tobytes() for example in examples}


def documents_in(*pools: tuple[Example, ...]) -> set[int]:
    return {example.document for pool in pools for example in pool}


def check_record(record: FeatureRecord, rows: TokenRows, activations: Array, cfg: FeatureConfig) -> None:
    """Everything that a record promises, against the dense activations of its feature."""
    explain, silent = record.non_activating.explain, record.non_activating.test
    pools = (record.train, record.test, explain, silent)
    n_examples = sum(len(pool) for pool in pools)
    assert len(set.union(*map(windows_of, pools))) == n_examples, "a window twice"
    assert len(set.union(*map(texts_of, pools))) == n_examples, "a text twice"
    assert not documents_in(record.train, explain) & documents_in(record.test, silent), "a document on both sides"
    for example in (e for pool in pools for e in pool):
        place = example.row, slice(example.start, example.start + cfg.window)
        np.testing.assert_array_equal(example.tokens, rows.tokens[place])
        np.testing.assert_array_equal(example.activations, activations[place])
        assert set(rows.documents[place].tolist()) == {example.document}
        assert example.document != NO_DOCUMENT
        assert len(example.str_tokens) == cfg.window
    assert all(
        example.max_activation > 0 and example.source == "activating" for example in (*record.train, *record.test)
    )
    assert all(example.max_activation == 0 and example.source == "random" for example in (*explain, *silent))
    assert all(example.quantile is None for example in (*explain, *silent))
    n_silent = [sum(counts.values()) for counts in cfg.silent_counts[:2]]
    for examples, n in zip(pools, (cfg.n_train, cfg.n_test, *n_silent), strict=True):
        assert 0 < len(examples) <= n
    for examples in (record.train, record.test):
        maxima = [example.max_activation for example in examples]
        assert maxima == sorted(maxima, reverse=True)
        quantiles = [example.quantile for example in examples if example.quantile is not None]
        assert quantiles == sorted(quantiles)
        assert len(quantiles) == len(examples)


@pytest.fixture(scope="module")
def of_all_sizes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TokenRows, list[Entry]]:
    """Feature i fires in SIZES[i] of 8000 windows, eight to a document; feature 4 as feature 1 does."""
    rows = documents_of(2, plain_rows(2000, 4 * WINDOW))
    rng = np.random.default_rng(0)
    entries = [entry for i, size in enumerate(SIZES) for entry in in_windows(rng, rows, size, i)]
    entries += [(row, position, 4, value) for row, position, feature, value in entries if feature == 1]
    root = write_cache(tmp_path_factory.mktemp("sizes"), rows, {MODULE: entries}, width=6, rows_per_run=700)
    return root, rows, entries


def loader_of(world: tuple[Path, TokenRows, list[Entry]], **settings: Any) -> FeatureLoader:
    return FeatureLoader(world[1], FeatureDataset(world[0], config(**settings)))


def record_of(loader: FeatureLoader, index: int) -> FeatureRecord:
    record = loader.build(FeatureId(MODULE, index))
    assert isinstance(record, FeatureRecord), record
    return record


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("index", range(len(SIZES)))
def test_train_and_test_share_no_window_and_no_document(
    index: int, sampling: Sampling, of_all_sizes: tuple[Path, TokenRows, list[Entry]]
) -> None:
    _, rows, entries = of_all_sizes
    loader = loader_of(of_all_sizes, sampling=sampling)
    record = record_of(loader, index)
    activations = dense(entries, rows, index)
    check_record(record, rows, activations, loader.cfg)
    assert (len(record.train), len(record.test)) == (40, min(50, len(record.test)))
    assert len(record.test) == 50 or SIZES[index] == 90
    assert (len(record.non_activating.explain), len(record.non_activating.test)) == (40, 50)
    if SIZES[index] > 90:
        assert np.bincount([e.quantile for e in record.test if e.quantile is not None]).tolist() == [5] * 10
    stats = record.stats
    fired = activations[activations > 0]
    assert (stats.n_tokens, stats.n_windows, stats.n_activations) == (64_000, 8000, len(fired))
    assert stats.n_active_windows == SIZES[index]
    assert stats.max_activation == fired.max()
    assert stats.mean_activation == pytest.approx(float(fired.mean(dtype=np.float64)))
    assert stats.density == len(fired) / 64_000


def test_records_over_random_caches_keep_their_promises(tmp_path: Path) -> None:
    """Padding, BOS, several rows per document, repeated texts; every failure is one that it should be."""
    n_records = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        vocab = int(rng.choice([3, 400]))
        rows = make_rows(
            120, 17, seed=seed, bos=1 if seed % 2 else None, vocab=vocab, rows_per_document=int(rng.choice([1, 3, 10]))
        )
        fires = rng.random((120, 17, 6)) < np.array([0.01, 0.05, 0.2, 0.6, 0.002, 0.0])
        fires &= (rows.documents != NO_DOCUMENT)[:, :, None]
        entries = [(r, p, f, float(np.float32(rng.exponential() + 0.01))) for r, p, f in np.argwhere(fires).tolist()]
        root = write_cache(tmp_path / str(seed), rows, {MODULE: entries}, width=6)
        cfg = config(
            window=4, n_train=12, n_test=15, n_quantiles=5, min_examples=8, sampling=SAMPLINGS[seed % 4], seed=seed,
            n_non_activating_train=20, n_non_activating_test=25, train_fraction=float(rng.choice([0.3, 0.5, 0.7])),
        )  # fmt: skip
        loader = FeatureLoader(rows, FeatureDataset(root, cfg))
        records = list(loader)
        assert len(records) + len(loader.failures) == len(loader.dataset)
        for record in records:
            check_record(record, rows, dense(entries, rows, record.feature.index), cfg)
        n_records += len(records)
    assert n_records > 15


def flat(record: FeatureRecord | Failure) -> Any:
    if isinstance(record, Failure):
        return record
    pools = (record.train, record.test, record.non_activating.explain, record.non_activating.test)
    return record.stats, [[(e.row, e.start, e.quantile, e.activations.tolist()) for e in pool] for pool in pools]


def test_a_record_is_the_same_in_whatever_order_they_are_built(
    of_all_sizes: tuple[Path, TokenRows, list[Entry]],
) -> None:
    forwards, backwards, alone = (loader_of(of_all_sizes) for _ in range(3))
    records = {record.feature: flat(record) for record in forwards}
    assert len(records) == 5
    for feature in reversed(backwards.dataset.features):
        assert flat(backwards.build(feature)) == records[feature]
    assert flat(alone.build(FeatureId(MODULE, 3))) == records[FeatureId(MODULE, 3)]
    assert flat(alone.build(FeatureId(MODULE, 3))) == records[FeatureId(MODULE, 3)]


def test_features_that_fire_alike_and_other_seeds_draw_differently(
    of_all_sizes: tuple[Path, TokenRows, list[Entry]],
) -> None:
    loader = loader_of(of_all_sizes, sampling="random")
    one, twin = record_of(loader, 1), record_of(loader, 4)
    other = record_of(loader_of(of_all_sizes, sampling="random", seed=1), 1)
    for record in (twin, other):
        assert record.stats == one.stats
        assert windows_of(record.train) != windows_of(one.train)
        assert windows_of(record.test) != windows_of(one.test)
        assert windows_of(record.non_activating.test) != windows_of(one.non_activating.test)


def test_more_training_examples_leave_the_test_set_as_it_is(of_all_sizes: tuple[Path, TokenRows, list[Entry]]) -> None:
    few, many = (record_of(loader_of(of_all_sizes, n_train=n), 2) for n in (10, 60))
    assert windows_of(few.test) == windows_of(many.test)
    assert windows_of(few.train) != windows_of(many.train)


@pytest.mark.parametrize("windows", ["grid", "centred"])
@pytest.mark.parametrize("index", range(len(SIZES)))
def test_development_examples_are_of_documents_of_their_own(
    index: int, windows: str, of_all_sizes: tuple[Path, TokenRows, list[Entry]]
) -> None:
    asked = {"n_dev": 20, "n_non_activating_dev": 25, "windows": windows}
    record = record_of(loader_of(of_all_sizes, **asked), index)
    pools = {
        "train": (*record.train, *record.non_activating.explain),
        "test": (*record.test, *record.non_activating.test),
        "dev": (*record.dev, *record.non_activating.dev),
    }
    documents = {name: {example.document for example in pool} for name, pool in pools.items()}
    texts = [example.tokens.tobytes() for pool in pools.values() for example in pool]
    assert sum(map(len, documents.values())) == len(set.union(*documents.values()))
    assert len(texts) == len(set(texts))
    assert 0 < len(record.dev) <= 20
    assert len(record.non_activating.dev) == 25
    assert all(example.max_activation > 0 for example in record.dev)
    assert not any(example.max_activation for example in record.non_activating.dev)
    without = record_of(loader_of(of_all_sizes, windows=windows), index)
    assert [(e.row, e.start) for e in without.test] == [(e.row, e.start) for e in record.test]
    assert without.dev == without.non_activating.dev == ()


def test_the_sides_get_their_share(of_all_sizes: tuple[Path, TokenRows, list[Entry]]) -> None:
    for fraction in (0.2, 0.8):
        loader = loader_of(of_all_sizes, train_fraction=fraction, n_train=5000, n_test=5000)
        record = record_of(loader, 2)
        assert len(record.train) / (len(record.train) + len(record.test)) == pytest.approx(fraction, abs=0.02)
        assert len(record.train) + len(record.test) == SIZES[2]


def test_negatives_are_all_there_are_when_there_are_few(tmp_path: Path) -> None:
    """Active in all but 30 windows of 15 documents; windows that repeat another's text count once."""
    rows = documents_of(1, plain_rows(60, 4 * WINDOW))
    silent = {(row, column) for row in range(45, 60) for column in (1, 3)}
    places = [(row, column) for row in range(60) for column in range(4) if (row, column) not in silent]
    entries = [(row, column * WINDOW + 2, 0, 1.0 + row) for row, column in places]
    for row, column in ((46, 1), (47, 3), (58, 1)):
        rows.tokens[row, column * WINDOW : (column + 1) * WINDOW] = rows.tokens[45, WINDOW : 2 * WINDOW]
    rows.tokens[50, 3 * WINDOW :] = rows.tokens[0, :WINDOW]  # the text of a window in which the feature fires
    root = write_cache(tmp_path, rows, {MODULE: entries}, width=2)
    n_always = 0
    for seed in range(10):
        cfg = config(n_train=200, n_test=200, n_non_activating_train=100, n_non_activating_test=100, seed=seed)
        record = record_of(FeatureLoader(rows, FeatureDataset(root, cfg)), 0)
        check_record(record, rows, dense(entries, rows, 0), cfg)
        found = windows_of(record.non_activating.explain) | windows_of(record.non_activating.test)
        assert found <= {(row, column * WINDOW) for row, column in silent}
        assert len(found) == 30 - 3 - 1
        cfg = config(n_non_activating_train=4, n_non_activating_test=5, seed=seed)
        record = record_of(FeatureLoader(rows, FeatureDataset(root, cfg)), 0)
        n_always += (len(record.non_activating.explain), len(record.non_activating.test)) == (4, 5)
    assert n_always == 10


def test_what_cannot_be_tested_is_a_failure_of_its_kind(tmp_path: Path) -> None:
    rows = documents_of(2, plain_rows(60, 4 * WINDOW))
    everywhere = [(row, position, 1, 1.0) for row in range(60) for position in range(0, 32, 4)]
    rare = [(row, 0, 2, 1.0) for row in range(19)]
    one_document = [(row, position, 3, 1.0) for row in (0, 1) for position in range(0, 32, WINDOW)]
    enough = [(row, 0, 4, 1.0) for row in range(20)]
    repeated = [(row, 8, 5, 1.0) for row in range(60)]
    rows.tokens[:, 8:16] = 5
    entries = everywhere + rare + one_document + enough + repeated
    root = write_cache(tmp_path, rows, {MODULE: entries}, width=6)
    loader = FeatureLoader(rows, FeatureDataset(root, config(min_examples=20)))
    assert isinstance(loader.build(FeatureId(MODULE, 4)), FeatureRecord)
    expected = {0: "dead", 1: "too_few_examples", 2: "rare", 5: "rare"}
    for index, kind in expected.items():
        failure = loader.build(FeatureId(MODULE, index))
        assert isinstance(failure, Failure)
        assert (failure.stage, failure.kind) == ("records", kind)
        assert f"{MODULE}:{index} " in failure.message
    few = FeatureLoader(rows, FeatureDataset(root, config(min_examples=5)))
    failure = few.build(FeatureId(MODULE, 3))
    assert isinstance(failure, Failure)
    assert (failure.kind, "too few documents" in failure.message) == ("too_few_examples", True)
    assert [record.feature.index for record in loader] == [4]
    assert {feature.index: failure.kind for feature, failure in loader.failures.items()} == {
        1: "too_few_examples",
        2: "rare",
        3: "rare",
        5: "rare",
    }
    with pytest.raises(InputError, match="has no feature 6"):
        loader.build(FeatureId(MODULE, 6))
    with pytest.raises(UnknownNameError, match=f"did you mean '{MODULE}'"):
        loader.build(FeatureId("transformer.h.2", 0))


def test_pools_that_nobody_asked_for_may_be_empty(of_all_sizes: tuple[Path, TokenRows, list[Entry]]) -> None:
    record = record_of(loader_of(of_all_sizes, n_non_activating_train=0, n_non_activating_test=0), 1)
    assert (record.non_activating.explain, record.non_activating.test) == ((), ())
    assert (len(record.train), len(record.test)) == (40, 50)


def test_rows_that_were_not_cached_are_left_out_and_foreign_ones_refused(tmp_path: Path) -> None:
    """With n_tokens fewer rows are cached than were given: on the others nothing is known to be silent."""
    rows = documents_of(1, plain_rows(100, WINDOW))
    cached = TokenRows(rows.tokens[:60], rows.documents[:60], rows.document_names)
    entries = [(row, 3, 0, 1.0 + row) for row in range(0, 60, 2)]
    root = write_cache(tmp_path, cached, {MODULE: entries}, width=2)
    loader = FeatureLoader(rows, FeatureDataset(root, config()))
    record = record_of(loader, 0)
    assert max(e.row for e in (*record.non_activating.explain, *record.non_activating.test)) < 60
    assert (record.stats.n_windows, record.stats.n_tokens) == (60, 60 * WINDOW)
    assert flat(record) == flat(record_of(FeatureLoader(cached, FeatureDataset(root, config())), 0))
    for tokens in (rows.tokens[:59], rows.tokens[:, :-1], rows.tokens.reshape(-1, 4)):
        with pytest.raises(InputError, match="the cache has 60 rows of 8 tokens, not"):
            FeatureLoader(tokens, FeatureDataset(root, config()))
    with pytest.raises(InputError, match="was cached over other tokens than these"):
        FeatureLoader(TokenRows.from_ids(rows.tokens + 1), FeatureDataset(root, config()))
    with pytest.raises(InputError, match="shape"):
        FeatureLoader(rows.tokens[0], FeatureDataset(root, config()))
    write_cache(tmp_path, rows, {"other": []}, width=2)
    with pytest.raises(InputError, match="cached over different tokens"):
        FeatureLoader(rows, FeatureDataset(root, config()))


def test_strings_come_from_the_vocabulary_or_name_the_token(tmp_path: Path) -> None:
    rows = plain_rows(60, WINDOW, vocab=6)
    entries = [(row, 3, 0, 1.0) for row in range(0, 60, 2)]
    root = write_cache(tmp_path, rows, {MODULE: entries}, width=2)
    vocabulary = Vocabulary(tuple(f" w{i}".encode() for i in range(6)))
    bare = record_of(FeatureLoader(rows, FeatureDataset(root, config())), 0).train[0]
    assert bare.text == "".join(f"<token {i}>" for i in bare.tokens)
    given = record_of(FeatureLoader(rows, FeatureDataset(root, config()), vocabulary=vocabulary), 0).train[0]
    assert given.str_tokens == tuple(f" w{i}" for i in given.tokens)
    vocabulary.save(root)
    assert record_of(FeatureLoader(rows, FeatureDataset(root, config())), 0).train[0].str_tokens == given.str_tokens


def test_the_dataset_reads_one_feature_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = plain_rows(10, WINDOW)
    entries = {m: [(row, 0, f, 1.0) for row in range(10) for f in fs] for m, fs in {"a": (1, 3), "b": (0, 2)}.items()}
    root = write_cache(tmp_path, rows, entries, width=4)
    read: list[int] = []
    original = CacheReader.entries
    monkeypatch.setattr(CacheReader, "entries", lambda self, index: read.append(index) or original(self, index))
    dataset = FeatureDataset(root)
    assert [str(feature) for feature in dataset.features] == ["a:1", "a:3", "b:0", "b:2"]
    iterator = iter(dataset)
    assert (len(dataset), read) == (4, [])
    assert str(next(iterator).feature) == "a:1"
    assert read == [1]
    assert [str(found.feature) for found in dataset] == ["a:1", "a:3", "b:0", "b:2"]
    chosen = FeatureDataset(root, features={"b": np.array([2, 3])})
    assert [(str(found.feature), len(found.locations)) for found in chosen] == [("b:2", 10), ("b:3", 0)]


def test_a_dataset_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="holds no finished cache"):
        FeatureDataset(tmp_path)
    root = write_cache(tmp_path, plain_rows(10, WINDOW), {MODULE: []}, width=4)
    assert len(FeatureDataset(root)) == 0
    with pytest.raises(UnknownNameError, match=f"did you mean '{MODULE}'"):
        FeatureDataset(root, features={"transformer.h1": [0]})
    with pytest.raises(InputError, match="has no feature 4: its width is 4"):
        FeatureDataset(root, features={MODULE: [3, 4]})
