"""Threads that share blocks: results in order, errors passed on, and torch's own threads as they were."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from sae_auto_interp.autoencoders import SparseCoder
from sae_auto_interp.autoencoders.encoding import encoder, workers
from sae_auto_interp.autoencoders.encoding.workers import Room, Workers
from sae_auto_interp.autoencoders.sparse_coder import CoderSettings, CoderWeights

N_THREADS = 3


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(N_THREADS)
    yield
    torch.set_num_threads(before)


def in_new_thread() -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def test_every_worker_uses_one_thread_and_all_others_as_many_as_before() -> None:
    made = Workers()
    all_here = threading.Barrier(N_THREADS)

    def settled(_: int, _room: Room) -> tuple[int, int, bool]:
        all_here.wait(10)
        return threading.get_ident(), torch.get_num_threads(), torch.is_inference_mode_enabled()

    for _ in range(2):
        found = made.map(settled, range(N_THREADS))
        assert len({ident for ident, *_ in found}) == N_THREADS
        assert {rest for _, *rest in map(tuple, found) for rest in [tuple(rest)]} == {(1, True)}
        assert torch.get_num_threads() == in_new_thread() == N_THREADS


def test_many_threads_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MOST_WORKERS", 2)
    torch.set_num_threads(5)
    found = Workers().map(lambda _, __: torch.get_num_threads(), range(4))
    assert set(found) == {2}
    assert torch.get_num_threads() == in_new_thread() == 5


def test_results_are_in_order_and_rooms_are_one_threads_at_a_time() -> None:
    in_use: set[int] = set()

    def work(item: int, room: Room) -> int:
        assert id(room) not in in_use
        in_use.add(id(room))
        room.array("x", (item + 1,)).fill(item)
        in_use.remove(id(room))
        return item * item

    made = Workers()
    for n in (0, 1, 50):
        assert made.map(work, range(n)) == [item * item for item in range(n)]
    assert len(made._rooms) <= N_THREADS


def test_an_error_is_passed_on_and_the_next_call_works() -> None:
    def work(item: int, _: Room) -> int:
        if item == 3:
            raise ValueError("three")
        return item

    made = Workers()
    with pytest.raises(ValueError, match="three"):
        made.map(work, range(6))
    assert made.map(work, range(3)) == [0, 1, 2]


def test_codes_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "LEAST_ROWS", 4)
    generator = torch.Generator().manual_seed(0)
    w = CoderWeights(
        torch.randn(9000, 16, generator=generator), torch.zeros(9000), torch.zeros(9000, 16), torch.zeros(16)
    )
    x = torch.randn(100, 16, generator=generator)
    for settings in (CoderSettings("topk", 20), CoderSettings("relu")):
        codes = []
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            codes.append(SparseCoder(w, settings).encode(x))
        for code in codes[1:]:
            assert all(
                torch.equal(getattr(code, name), getattr(codes[0], name))
                for name in ("positions", "features", "values")
            )


def test_a_buffer_is_taken_anew_only_when_it_is_too_small() -> None:
    room = Room()
    first = room.array("x", (3, 4))
    assert room.array("x", (2, 5)).base is first.base
    assert room.array("x", (20,)).base is not first.base
    assert room.array("x", (2,), torch.empty(0).numpy().dtype.type).dtype == "float32"


def test_calls_that_come_one_by_one_start_no_threads_anew() -> None:
    own = encoder.own_scratch(torch.device("cpu"))
    assert encoder.own_scratch(torch.device("cpu")) is own
    found: list[encoder.Scratch] = []
    other = threading.Thread(target=lambda: found.append(encoder.own_scratch(torch.device("cpu"))))
    other.start()
    other.join()
    assert found[0] is not own, "buffers are for one thread at a time"
    assert encoder.own_scratch(torch.device("meta")) is not encoder.own_scratch(torch.device("meta"))


def test_after_a_fork_threads_are_not_those_of_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    own = encoder.own_scratch(torch.device("cpu"))
    monkeypatch.setattr(encoder.os, "getpid", lambda: -1)
    child = encoder.own_scratch(torch.device("cpu"))
    assert child is not own
    assert encoder.own_scratch(torch.device("cpu")) is child


def test_workers_made_before_a_fork_start_threads_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Workers()
    made.map(lambda item, _: item, range(4))
    pool = made._pool
    made.map(lambda item, _: item, range(4))
    assert made._pool is pool
    monkeypatch.setattr(workers.os, "getpid", lambda: -1)
    assert made.map(lambda item, _: item, range(4)) == [0, 1, 2, 3]
    assert made._pool is not pool


def test_an_interrupt_while_threads_start_leaves_none_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of three is never handed out, so the first would wait for the others forever."""
    submit, n_submitted = ThreadPoolExecutor.submit, 0

    def interrupted(pool: ThreadPoolExecutor, *args: Any) -> Any:
        nonlocal n_submitted
        n_submitted += 1
        if n_submitted == 2:
            raise KeyboardInterrupt
        return submit(pool, *args)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    before = set(threading.enumerate())
    made = Workers()
    with pytest.raises(KeyboardInterrupt):
        made.map(lambda item, _: item, range(6))
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()
    assert torch.get_num_threads() == N_THREADS
    monkeypatch.undo()
    torch.set_num_threads(N_THREADS)
    assert made.map(lambda item, _: item, range(3)) == [0, 1, 2]


def test_buffers_begin_at_a_cache_line() -> None:
    """numpy's own begin at any multiple of 16 bytes; products into such take a third longer."""
    room = Room()
    kept = [np.empty(n, np.uint8) for n in range(16, 200, 16)]  # so that memory is not all alike
    for i, dtype in enumerate((np.float32, np.bool_, np.int32) * 4):
        buffer = room.array(f"buffer {i}", (3, 1000 + i), dtype)
        assert buffer.ctypes.data % 64 == 0
        assert buffer.shape == (3, 1000 + i)
        assert buffer.dtype == dtype
    del kept
