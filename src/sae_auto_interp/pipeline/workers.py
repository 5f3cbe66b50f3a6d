"""Work on many items at once, a bounded number of them in flight, and what happens when a piece of it breaks."""

import asyncio
import logging
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import aclosing
from typing import Any, TypeVar

from sae_auto_interp.errors import SaeAutoInterpError
from sae_auto_interp.types import Failure

_log = logging.getLogger(__name__)

Item = TypeVar("Item")
CRASHED = "crashed"
"""Kind of the failure of a component that raised what it should not."""


async def for_each(
    items: AsyncIterator[Item], work: Callable[[Item], Coroutine[Any, Any, None]], at_once: Callable[[], int]
) -> None:
    """Begin `work` on every item in order, while fewer than `at_once()` are being worked on.

    An item is asked for only when there is room for it: that is the back-pressure on whoever makes them. The first
    exception ends all other work and is raised as it is.
    """
    running: set[asyncio.Task[None]] = set()
    try:
        async for item in _watching(items, running):
            running.add(asyncio.create_task(work(item)))
            while len(running) >= max(1, at_once()):
                await _wait_for_any(running)
        while running:
            await _wait_for_any(running)
    finally:
        await _end(running)


async def together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All at once, begun in order; the first exception ends the others and is raised as it is."""
    running = {asyncio.create_task(each) for each in work}
    try:
        while running:
            await _wait_for_any(running)
    finally:
        await _end(running)


async def ahead(items: AsyncGenerator[Item, None], n: int) -> AsyncGenerator[Item, None]:
    """The same items, up to `n` of them made before they are asked for."""
    made: asyncio.Queue[tuple[Item] | None] = asyncio.Queue()
    room = asyncio.Semaphore(n)

    async def make() -> None:
        async with aclosing(items):
            async for item in items:
                made.put_nowait((item,))
                await room.acquire()

    maker = asyncio.create_task(make())
    maker.add_done_callback(lambda _: made.put_nowait(None))
    try:
        while (item := await made.get()) is not None:
            room.release()
            yield item[0]
        await maker
    finally:
        await _end({maker})


async def in_thread(work: Callable[[], Item]) -> Item:
    """While others go on; a cancellation waits for it, because what runs in a thread cannot be left running."""
    step = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(step)
    except asyncio.CancelledError:
        await asyncio.wait({step})
        raise


async def isolated(stage: str, work: Awaitable[Item]) -> Item | Failure:
    """The result of a component's work; an exception that is none of ours becomes a Failure of this unit alone.

    Ours go through: they are about the run (a full disk, a wrong file, a budget that is spent) and not about one unit.
    """
    try:
        return await work
    except SaeAutoInterpError:
        raise
    except Exception as error:  # noqa: BLE001 - the boundary: a component's mistake costs its own unit only
        _log.exception("a component of the stage %s raised %s", stage, type(error).__name__)
        last = traceback.extract_tb(error.__traceback__)[-1]
        return Failure(stage, CRASHED, f"{type(error).__name__}: {error} (in {last.name}, line {last.lineno})")


async def _watching(items: AsyncIterator[Item], running: set[asyncio.Task[None]]) -> AsyncGenerator[Item, None]:
    """The items; while one is waited for, work that breaks is noticed."""
    while True:
        getter = asyncio.ensure_future(anext(items, None))
        try:
            while not getter.done():
                await asyncio.wait({getter, *running}, return_when=asyncio.FIRST_COMPLETED)
                _take_finished(running)
        finally:
            await _end({getter})
        item = getter.result()
        if item is None:
            return
        yield item


async def _wait_for_any(running: set[asyncio.Task[None]]) -> None:
    """Wait until one task is over, and take out those that are; raises the exception of one that broke."""
    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    _take_finished(running)


def _take_finished(running: set[asyncio.Task[None]]) -> None:
    for task in [task for task in running if task.done()]:
        running.discard(task)
        task.result()


async def _end(tasks: Iterable["asyncio.Future[Any]"]) -> None:
    """Cancel what is still running, and wait until it is over."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
