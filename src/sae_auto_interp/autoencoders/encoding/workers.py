"""Threads that each work on blocks of their own, and the buffers that they use again.

A block of positions is encoded by one thread from the product to the selection. Threads that share every operation
wait for each other after each; threads that share the blocks wait once, and the parts that torch or numpy do with one
thread run side by side as well. How many there are is torch's own setting, which stays what it was.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from math import prod
from threading import Barrier
from typing import TypeVar

import numpy as np
import torch

from sae_auto_interp.types import Array

LINE = 64
"""Bytes of a cache line. Products into rows that begin 16 bytes beside a multiple of 32 take a third longer."""
MOST_WORKERS = 16
"""More would wait for Python's lock, and their buffers grow large; each gets several of torch's threads instead."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Room:
    """Buffers by name, each as large as was ever asked for; for one thread at a time."""

    def __init__(self) -> None:
        self._buffers: dict[str, Array] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: type[np.generic] = np.float32) -> Array:
        """Return an array of this shape, at the beginning of a cache line, with arbitrary content.

        What was given before under this name is overwritten by its use.
        """
        n = prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.dtype != dtype or len(buffer) < n:
            buffer = self._buffers[name] = _aligned(n, np.dtype(dtype))
        return buffer[:n].reshape(shape)


def _aligned(n: int, dtype: np.dtype[np.generic]) -> Array:
    """numpy's own arrays begin at any multiple of 16 bytes."""
    n_bytes = n * dtype.itemsize
    memory = np.empty(n_bytes + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + n_bytes].view(dtype)


class Workers:
    """Runs a function over items, in as many threads as torch may use; started when there is more than one item."""

    def __init__(self) -> None:
        self._rooms: deque[Room] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self._n_threads = 0
        self._process = os.getpid()

    def map(self, function: Callable[[Item, Room], Result], items: Sequence[Item]) -> list[Result]:
        """The results in order of the items; what `function` raises is raised here."""
        n_threads = torch.get_num_threads() if _is_set_by_thread() else 1
        if len(items) < 2 or n_threads == 1:
            return [self._run(function, item) for item in items]
        return list(self._threads(n_threads).map(partial(self._run, function), items))

    def _run(self, function: Callable[[Item, Room], Result], item: Item) -> Result:
        try:
            room = self._rooms.pop()
        except IndexError:
            room = Room()
        try:
            with torch.inference_mode():  # this, too, is a setting of each thread
                return function(item, room)
        finally:
            self._rooms.append(room)

    def _threads(self, n_threads: int) -> ThreadPoolExecutor:
        if self._pool is None or (self._n_threads, self._process) != (n_threads, os.getpid()):
            n_workers = min(n_threads, MOST_WORKERS)
            self._pool = _started(n_workers, n_threads // n_workers)
            self._n_threads, self._process = n_threads, os.getpid()  # threads do not survive a fork
        return self._pool


def _started(n_workers: int, torch_threads: int) -> ThreadPoolExecutor:
    """Threads in which torch uses `torch_threads`; in this one and in others it uses as many as before.

    The number is a setting of each thread, and `set_num_threads` sets it for the calling one and for threads to
    come: so each worker sets its own, and then the number for threads to come is set back.
    """
    n_before = torch.get_num_threads()  # also makes torch settle this thread's number

    def settle() -> None:
        torch.get_num_threads()  # without this, torch settles the number later, and to the one for threads to come
        torch.set_num_threads(torch_threads)

    pool = ThreadPoolExecutor(n_workers, thread_name_prefix="encoder", initializer=settle)
    try:
        _start_all(pool, n_workers)
    finally:
        torch.set_num_threads(n_before)
    return pool


def _start_all(pool: ThreadPoolExecutor, n_workers: int) -> None:
    """Have every thread do something: none is done before all have begun. Interrupted, none is left waiting."""
    all_here = Barrier(n_workers)
    try:
        for begun in [pool.submit(all_here.wait) for _ in range(n_workers)]:
            begun.result()
    except BaseException:
        all_here.abort()
        pool.shutdown(wait=False, cancel_futures=True)
        raise


@cache
def _is_set_by_thread() -> bool:
    """Whether torch's number of threads is one of each thread, as it is with OpenMP."""
    return "parallel backend: OpenMP" in torch.__config__.parallel_info()
