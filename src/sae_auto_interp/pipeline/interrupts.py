"""Ctrl-C and SIGTERM.

While language models are asked: the first one lets what is being asked finish and be stored, begins nothing new, and
ends the waits for a server that is away or busy; a second one stops at once. Inside a stage that never awaits, the
first stops at once: `asyncio.run` would turn it into a cancellation that such a stage sees only at its end. In either
case nothing finished is lost.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

from sae_auto_interp.errors import RunInterruptedError, RunStoppedError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether the run was asked to end, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def requested(self) -> bool:
        return self.signal is not None

    def raise_if_requested(self) -> None:
        """Raises `RunInterruptedError`."""
        if self.signal is not None:
            raise RunInterruptedError(self.signal)


@contextmanager
def immediate_interrupts() -> Generator[None, None, None]:
    """Let the signals raise `RunInterruptedError` inside; without effect outside the main thread, which gets none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _raise) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def draining_interrupts(
    say: Callable[[str], None], end_waits: Callable[[], None] = lambda: None
) -> Generator[Stop, None, None]:
    """What the signals ask for, while the body awaits; the second one cancels the task that entered.

    The first one calls `end_waits`, in the event loop: no request that would have to wait is asked again.

    Without effect outside the main thread.
    """
    stop = Stop()
    task = asyncio.current_task()
    assert task is not None, "draining_interrupts belongs into a coroutine"

    def on_signal(number: int, _: FrameType | None) -> None:
        if stop.requested:
            loop.call_soon_threadsafe(task.cancel)
            return
        stop.signal = number
        loop.call_soon_threadsafe(end_waits)
        loop.call_soon_threadsafe(say, "stopping: what is being asked is finished first; once more to stop at once")

    loop = asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        yield stop
    except (asyncio.CancelledError, RunStoppedError):
        stop.raise_if_requested()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise(number: int, _: FrameType | None) -> None:
    raise RunInterruptedError(number)
