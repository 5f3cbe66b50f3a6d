"""The pool hands over what came in, by key and in the order of coming, whatever the sizes of pieces."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from sae_auto_interp.cache import pool as pool_module
from sae_auto_interp.cache.pool import EntryPool

LOCATIONS = np.dtype(np.uint64)
HALF = np.dtype(np.float16)


@given(
    st.integers(1, 9),
    st.lists(st.integers(0, 12), max_size=5),
    st.integers(1, 30),
    st.integers(1, 40),
    st.sampled_from([1, 3]),
    st.integers(0, 1000),
)
def test_entries_come_out_by_key_and_in_order(
    n_keys: int, batches: list[int], piece: int, looked_at: int, n_threads: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pool = EntryPool(100, n_keys, LOCATIONS)
    keys = [rng.integers(0, n_keys, n) for n in batches]
    first = int(rng.integers(0, 1 << 40))
    locations = [np.sort(rng.integers(first, first + 1000, n)) for n in batches]
    values = [rng.random(n).astype(np.float16) for n in batches]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool_module, "PIECE_ENTRIES", piece)
        patch.setattr(pool_module, "LOOKED_AT", looked_at)
        patch.setattr(pool_module, "N_THREADS", n_threads)
        for _ in range(2):  # the pool can be filled again
            taken = [pool.take(0, *batch) for batch in zip(keys, locations, values, strict=True) if len(batch[0])]
            assert taken == [n for n in batches if n]
            offsets = pool.offsets()
            pieces = list(pool.sorted_pieces(offsets, HALF))
            pool.clear()
            joined = np.concatenate([*keys, np.empty(0, np.int64)])
            order = np.argsort(joined, kind="stable")
            assert np.array_equal(offsets, np.searchsorted(joined[order], np.arange(n_keys + 1)))
            for place, columns in ((0, locations), (1, values)):
                expected = np.concatenate([*columns, np.empty(0)])[order]
                assert np.array_equal(np.concatenate([np.empty(0), *(part[place] for part in pieces)]), expected)
            assert all(len(part[0]) <= max(piece, looked_at) for part in pieces)
    assert pool.n == 0


def test_its_memory_does_not_depend_on_how_full_it_is() -> None:
    """Pages that nothing was written to would not count yet, and would later."""
    pool = EntryPool(1000, 5, LOCATIONS)
    assert len(pool._keys) == 0
    pool.take(0, np.array([1]), np.array([7]), np.array([1.0], np.float16))
    keys, words = pool._keys, pool._words
    assert not keys[1:].any()
    assert not words[1:].any()
    pool.clear()
    pool.take(0, np.array([1]), np.array([7]), np.array([1.0], np.float16))
    assert pool._keys is keys
    assert pool._words is words
    pool.release()
    assert len(pool._keys) == 0
