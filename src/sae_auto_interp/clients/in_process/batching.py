"""Gathers requests that arrive within a moment into batches, and works on one batch at a time in a thread of its own.

The event loop stays free while a batch is worked on; what arrives meanwhile makes the next batches. Each request is
answered as soon as the work says so: a short answer need not wait for the longest of its batch.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False)
class Batcher(Generic[Item, Result]):
    """`await ask(item)` puts an item into the next batch; what `work` raises is raised to all of its batch."""

    work: Callable[[Sequence[Item], Callable[[int, Result | Exception], None]], None]
    """Given a batch and `answer(i, result)`, which it calls for each item i, in its own thread."""
    batches_of: Callable[[Sequence[Item]], list[list[int]]]
    """How the items that wait are cut into batches: their indices."""
    gather_seconds: float
    executor: ThreadPoolExecutor
    _waiting: list[tuple[Item, asyncio.Future[Result]]] = field(default_factory=lambda: [], init=False)
    _worker: asyncio.Task[None] | None = field(default=None, init=False)

    async def ask(self, item: Item) -> Result:
        """The answer to one item; raises what the work answered with, if that is an exception."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work_off())
        return await future

    async def close(self) -> None:
        """Give up what waits; a batch that is being worked on is finished first."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
        for _, future in self._waiting:
            future.cancel()
        self._waiting = []

    async def _work_off(self) -> None:
        while self._waiting:
            await asyncio.sleep(self.gather_seconds)
            taken, self._waiting = self._waiting, []
            for indices in self.batches_of([item for item, _ in taken]):
                await self._work_on([taken[i] for i in indices])

    async def _work_on(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        loop = asyncio.get_running_loop()
        futures = [future for _, future in batch]

        def answer(i: int, result: Result | Exception) -> None:
            loop.call_soon_threadsafe(_settle, futures[i], result)

        try:
            await loop.run_in_executor(self.executor, self.work, [item for item, _ in batch], answer)
        except Exception as error:  # noqa: BLE001 - the boundary of a worker: whoever waits must hear of it
            for future in futures:
                _settle(future, error)


def _settle(future: "asyncio.Future[Result]", result: Result | Exception) -> None:
    if future.done():  # whoever asked gave up
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
