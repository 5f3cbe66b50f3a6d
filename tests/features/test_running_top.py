"""The n best of rows seen block by block, against a stable sort of the whole."""

import numpy as np
from hypothesis import given, strategies as st

from sae_auto_interp.features.neighbours.running_top import RunningTop


@given(
    st.integers(1, 5).flatmap(
        lambda n_rows: st.lists(st.lists(st.integers(0, 4), min_size=n_rows, max_size=n_rows), min_size=1, max_size=20)
    ),
    st.integers(1, 4),
    st.integers(1, 6),
)
def test_running_top_is_a_stable_sort(columns: list[list[int]], n: int, block: int) -> None:
    keys = np.array(columns, dtype=np.float64).T
    top = RunningTop(len(keys), n)
    for first in range(0, keys.shape[1], block):
        rows, places = np.nonzero(keys[:, first : first + block] > top.threshold[:, None])
        top.offer(rows, places + first, keys[rows, places + first])
    found, best = top.best()
    n_found = min(n, keys.shape[1])
    assert np.array_equal(found[:, :n_found], np.argsort(-keys, axis=1, kind="stable")[:, :n])
    assert np.array_equal(best[:, :n_found], -np.sort(-keys, axis=1)[:, :n])
    assert (found[:, n_found:] == -1).all()


def test_one_row_with_very_many_entries_costs_no_memory_for_the_others() -> None:
    import tracemalloc

    n_rows, n, n_columns = 512, 50, 25_000
    keys = np.random.default_rng(0).random(n_columns)
    top = RunningTop(n_rows, n)
    top.offer(np.array([1]), np.array([0]), np.array([0.5]))
    tracemalloc.start()
    top.offer(np.zeros(n_columns, np.int64), np.arange(1, n_columns + 1), keys)
    found, best = top.best()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20, "512 rows of 25,000 entries would take 100 MiB and more"
    assert np.array_equal(found[0], 1 + np.argsort(-keys)[:n])
    assert np.array_equal(best[1, :2], [0.5, -np.inf])
