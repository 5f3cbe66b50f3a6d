"""Ctrl-C inside a synchronous stage.

`asyncio.run` turns the first ctrl-C into a cancellation, which a stage that never awaits would see only at its end.
While such a stage runs, ctrl-C raises KeyboardInterrupt at once, as it does everywhere else in Python.
"""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def immediate_interrupts() -> Generator[None, None, None]:
    """Let ctrl-C raise KeyboardInterrupt inside; without effect outside the main thread, which gets no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
