"""Work beside the caller's: in order, bounded, and never behind a failure."""

import threading
from typing import Any

import pytest

from sae_auto_interp.features.caching.background import Background

PATIENCE = 30


@pytest.mark.parametrize("n_waiting", [0, 1, 3])
def test_every_item_in_order_when_the_block_is_left(n_waiting: int) -> None:
    done: list[int] = []
    with Background(done.append, n_waiting) as background:
        for item in range(20):
            background.put(item)
    assert done == list(range(20))


def test_without_waiting_it_is_done_at_once_on_the_callers_thread() -> None:
    done: list[tuple[int, threading.Thread]] = []

    def work(item: int) -> None:
        done.append((item, threading.current_thread()))

    with Background(work, 0) as background:
        background.put(7)
        assert done == [(7, threading.current_thread())]


def test_the_caller_goes_on_until_too_many_wait() -> None:
    may_work = threading.Event()
    done: list[int] = []

    def work(item: int) -> None:
        assert may_work.wait(PATIENCE)
        done.append(item)

    with Background(work, 2) as background:
        background.put(0)
        background.put(1)
        assert done == []
        threading.Timer(0.05, may_work.set).start()
        background.put(2)
        assert done[0] == 0, "the third item waited for the first"
    assert done == [0, 1, 2]


@pytest.mark.parametrize("n_waiting", [0, 1, 2, 10])
def test_nothing_is_done_behind_what_failed(n_waiting: int) -> None:
    done: list[int] = []

    def work(item: int) -> None:
        if item == 3:
            raise ValueError("the fourth")
        done.append(item)

    def put_all(background: Background[int]) -> None:
        for item in range(8):
            background.put(item)

    with pytest.raises(ValueError, match="the fourth"), Background(work, n_waiting) as background:
        put_all(background)
    assert done == [0, 1, 2]


def test_an_interrupted_caller_waits_for_what_was_begun_and_no_more() -> None:
    begun, may_end = threading.Event(), threading.Event()
    done: list[int] = []

    def work(item: int) -> None:
        begun.set()
        assert may_end.wait(PATIENCE)
        done.append(item)

    def interrupted(background: Background[int]) -> Any:
        for item in range(3):
            background.put(item)
        assert begun.wait(PATIENCE)
        threading.Timer(0.05, may_end.set).start()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Background(work, 5) as background:
        interrupted(background)
    assert done == [0]


def test_a_failure_while_the_caller_leaves_is_not_forgotten() -> None:
    """The thread fails when everything has been put; what waits behind is still not done."""
    may_fail, has_failed, left = threading.Event(), threading.Event(), threading.Event()
    done: list[int] = []

    def work(item: int) -> None:
        if item == 1:
            assert may_fail.wait(PATIENCE)
            raise ValueError("the second")
        done.append(item)

    class Watched(Background[int]):
        def _wait(self, n: int) -> None:
            if n == 0:
                left.set()
            super()._wait(n)

        def _do(self, item: int) -> None:
            try:
                super()._do(item)
            finally:
                if item == 1:
                    has_failed.set()
                    assert left.wait(PATIENCE)

    def put_all(background: Background[int]) -> None:
        for item in range(5):
            background.put(item)
        may_fail.set()
        assert has_failed.wait(PATIENCE)

    with pytest.raises(ValueError, match="the second"), Watched(work, 10) as background:
        put_all(background)
    assert done == [0]


def test_what_failed_first_is_heard_when_the_caller_fails_too() -> None:
    failed = threading.Event()

    def work(item: int) -> None:
        try:
            raise ValueError("activations are no numbers")
        finally:
            failed.set()

    def put_and_fail(background: Background[int]) -> None:
        background.put(0)
        assert failed.wait(PATIENCE)
        raise RuntimeError("out of memory")

    with pytest.raises(ValueError, match="no numbers") as caught, Background(work, 5) as background:
        put_and_fail(background)
    assert isinstance(caught.value.__cause__, RuntimeError)
