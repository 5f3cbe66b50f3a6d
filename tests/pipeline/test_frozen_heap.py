"""The collector leaves alone what was there before a run, and nothing else."""

import gc
import weakref

import pytest

from sae_auto_interp.pipeline.stages import frozen_heap


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_what_comes_inside_is_collected_and_what_was_there_is_not_looked_at() -> None:
    before = weakref.ref(Cycle())
    with frozen_heap():
        inside = weakref.ref(Cycle())
        gc.collect()
        assert inside() is None
        assert before() is not None
    gc.collect()
    assert before() is None


def test_it_ends_with_the_outermost_block_also_by_an_error() -> None:
    assert gc.get_freeze_count() == 0
    with pytest.raises(KeyError):
        _break_inside_two()
    assert gc.get_freeze_count() == 0


def _break_inside_two() -> None:
    with frozen_heap():
        with frozen_heap():
            pass
        assert gc.get_freeze_count() > 0
        raise KeyError
