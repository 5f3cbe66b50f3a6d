"""Windows around peaks against taking them one by one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, strategies as st

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.features import FeatureConfig, FeatureDataset, FeatureLoader, pool_centred_activation_windows
from sae_auto_interp.features.constructors import activations_of
from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.types import NO_DOCUMENT, Example, FeatureEntries, FeatureId, FeatureRecord, TokenRows
from tests.features.test_grid import token_rows
from tests.support.records import Entry, make_rows, write_cache

MODULE = "transformer.h.1"


def entries_of(dense: Any) -> FeatureEntries:
    locations = np.flatnonzero(dense)
    return FeatureEntries(FeatureId("m", 0), locations, dense.reshape(-1)[locations].astype(np.float32))


def windows_one_by_one(rows: TokenRows, dense: Any, window: int) -> list[tuple[int, int]]:
    """(row, start) of the windows by definition: in order of activation, a quarter at most within one before it."""
    n_before = min(window - window // 4, window - 1)
    peaks = [(row, position) for row, position in np.argwhere(dense).tolist()]
    taken: list[tuple[int, int]] = []
    for row, peak in sorted(peaks, key=lambda place: (-dense[place], place)):
        owner = rows.documents[row, peak]
        first, last = peak, peak
        while first > 0 and rows.documents[row, first - 1] == owner:
            first -= 1
        while last + 1 < rows.ctx_len and rows.documents[row, last + 1] == owner:
            last += 1
        if owner == NO_DOCUMENT or last - first + 1 < window:
            continue
        start = min(max(peak - n_before, first), last + 1 - window)
        shown = [set(range(s, s + window)) for r, s in taken if r == row]
        if all(len(other & set(range(start, start + window))) <= window // 4 for other in shown):
            taken.append((row, start))
    return taken


@given(token_rows(), st.integers(1, 8), st.data())
def test_windows_are_those_taken_one_by_one(arrays: tuple[Any, Any], window: int, data: st.DataObject) -> None:
    rows = TokenRows(*arrays, ("a", "b", "c"))
    assume(window <= rows.ctx_len)
    grid = WindowGrid(
        rows, window, 0, 1, np.full(rows.n_rows, NO_DOCUMENT, np.int32), window
    )  # windows need not fit a grid
    values = data.draw(st.lists(st.integers(-6, 4), min_size=rows.tokens.size, max_size=rows.tokens.size))
    dense = np.array(values, dtype=np.float32).clip(min=0).reshape(rows.tokens.shape)
    expected = windows_one_by_one(rows, dense, window)
    first_of_text: dict[tuple[int, ...], tuple[int, int]] = {}
    for row, start in sorted(expected, key=lambda at: (-dense[at[0], at[1] : at[1] + window].max(), at)):
        first_of_text.setdefault(tuple(rows.tokens[row, start : start + window].tolist()), (row, start))
    kept = {place: dense[place[0], place[1] : place[1] + window] for place in first_of_text.values()}
    found = pool_centred_activation_windows(entries_of(dense), grid)
    places = [divmod(start, rows.ctx_len) for start in found.starts.tolist()]
    assert places == sorted(kept, key=lambda place: (-kept[place].max(), place))
    assert found.maxima.tolist() == [kept[place].max() for place in places]
    assert found.documents.tolist() == [rows.documents[place] for place in places]
    activations = activations_of(entries_of(dense), found.starts, window)
    assert activations.tolist() == [kept[place].tolist() for place in places]


def test_a_feature_that_never_stops_is_seen_in_windows_side_by_side() -> None:
    """Equal activations: the first token is a peak, then each a quarter of a window at most within one before it."""
    rows = TokenRows.from_ids(np.arange(3 * 256).reshape(3, 256))
    found = pool_centred_activation_windows(entries_of(np.ones((3, 256))), WindowGrid.over(rows, 32))
    assert sorted(found.starts.tolist()) == [row * 256 + start for row in range(3) for start in range(0, 217, 24)]
    assert found.n_on_grid == 24


def centred_record(root: Path, rows: TokenRows, index: int, **settings: Any) -> FeatureRecord:
    cfg = FeatureConfig(
        window=8, n_train=30, n_test=30, min_examples=20, n_quantiles=5, windows="centred",
        n_non_activating_train=30, n_non_activating_test=30, **settings,
    )  # fmt: skip
    record = FeatureLoader(rows, FeatureDataset(root, cfg)).build(FeatureId(MODULE, index))
    assert isinstance(record, FeatureRecord), record
    return record


def positions_of(examples: tuple[Example, ...]) -> set[tuple[int, int]]:
    return {(example.row, example.start + i) for example in examples for i in range(len(example.tokens))}


@pytest.mark.parametrize("bos", [None, 1])
def test_records_of_centred_windows_keep_their_promises(bos: int | None, tmp_path: Path) -> None:
    """Disjoint by document; what is called silent shares no token with a window that is shown."""
    rows = make_rows(400, 33, seed=3, bos=bos, vocab=30_000, rows_per_document=4)
    rng = np.random.default_rng(0)
    fires = (rng.random((400, 33, 3)) < [0.03, 0.1, 0.008]) & (rows.documents != NO_DOCUMENT)[:, :, None]
    entries: list[Entry] = [
        (r, p, f, float(np.float32(rng.exponential() + 0.01))) for r, p, f in np.argwhere(fires).tolist()
    ]
    root = write_cache(tmp_path, rows, {MODULE: entries}, width=3)
    for index in range(3):
        dense = np.zeros(rows.tokens.shape, np.float32)
        for row, position, feature, value in entries:
            if feature == index:
                dense[row, position] = value
        record = centred_record(root, rows, index)
        silent = (*record.non_activating.explain, *record.non_activating.test)
        active = (*record.train, *record.test)
        for example in (*active, *silent):
            place = example.row, slice(example.start, example.start + 8)
            np.testing.assert_array_equal(example.activations, dense[place])
            np.testing.assert_array_equal(example.tokens, rows.tokens[place])
            assert set(rows.documents[place].tolist()) == {example.document}
        assert all(example.max_activation > 0 for example in active)
        assert not any(example.max_activation for example in silent)
        assert not positions_of(active) & positions_of(silent)
        assert not positions_of(record.non_activating.explain) & positions_of(record.non_activating.test)
        explain_side = {e.document for e in (*record.train, *record.non_activating.explain)}
        assert not explain_side & {e.document for e in (*record.test, *record.non_activating.test)}
        for pool in (record.train, record.test):
            assert [e.max_activation for e in pool] == sorted((e.max_activation for e in pool), reverse=True)
        on_grid = WindowGrid.over(rows, 8)
        assert record.stats.n_windows == on_grid.n_usable
        assert record.stats.n_active_windows == len(
            np.unique(on_grid.usable(on_grid.windows_of(np.flatnonzero(dense))))
        )


def test_two_kinds_of_windows_at_once_are_refused(tmp_path: Path) -> None:
    from sae_auto_interp.features import max_activation_pooling_sampler

    rows = make_rows(12, 16)
    root = write_cache(tmp_path, rows, {MODULE: []}, width=3)
    dataset = FeatureDataset(root, FeatureConfig(window=8, windows="centred"))
    assert FeatureLoader(rows, dataset).constructor is pool_centred_activation_windows
    assert FeatureLoader(rows, dataset, pool_centred_activation_windows).constructor is pool_centred_activation_windows
    with pytest.raises(ConfigError, match=r"features\.windows='centred', but FeatureLoader was given another"):
        FeatureLoader(rows, dataset, max_activation_pooling_sampler)


def test_a_mistyped_kind_of_windows_is_refused() -> None:
    config = FeatureConfig()
    object.__setattr__(config, "windows", "centered")  # the tests' own type check would not let it through
    with pytest.raises(ConfigError, match=r"features\.windows='centered'; give one of grid, centred"):
        config.__post_init__()
