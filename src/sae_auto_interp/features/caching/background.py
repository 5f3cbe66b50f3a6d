"""Work on one item after the other beside what the caller goes on doing.

For what waits for a GPU's results and stores them, while the caller gives the GPU the next batch.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Background(Generic[Item]):
    """Calls `work` for each item that is `put`, in order, on one thread; at once, on the caller's, for `n_waiting` 0.

    A context manager. `put` waits until no more than `n_waiting` items are unfinished, and leaving the block until none
    is. What `work` raises is raised by one of the two, also in place of an error that the block is left by; but
    ctrl-C stays what it is. After that, and when the block is left by an error, no item that still waits is begun.
    """

    def __init__(self, work: Callable[[Item], None], n_waiting: int) -> None:
        self._work = work
        self._n_waiting = n_waiting
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="background") if n_waiting else None
        self._unfinished: deque[Future[None]] = deque()
        self._is_over = False

    def put(self, item: Item) -> None:
        if self._thread is None:
            self._work(item)
            return
        self._unfinished.append(self._thread.submit(self._do, item))
        self._wait(self._n_waiting)

    def __enter__(self) -> "Background[Item]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._thread is None:
            return
        try:
            if kind is None:
                self._wait(0)
        finally:
            if error is not None:  # never set back: the thread may have failed in the meantime
                self._is_over = True
            self._thread.shutdown(cancel_futures=True)
        failure = self._first_failure()
        if failure is not None and isinstance(error, Exception):
            raise failure from error

    def _do(self, item: Item) -> None:
        if self._is_over:
            return
        try:
            self._work(item)
        except BaseException:
            self._is_over = True
            raise

    def _wait(self, n: int) -> None:
        while len(self._unfinished) > n:
            self._unfinished.popleft().result()

    def _first_failure(self) -> BaseException | None:
        """Return the first error of work that the thread has done and nobody has asked for."""
        done = (item.exception() for item in self._unfinished if not item.cancelled())
        return next((failure for failure in done if failure is not None), None)
