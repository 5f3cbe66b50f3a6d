"""An event loop whose time jumps: whatever sleeps wakes at its moment, and no test waits for it.

For code that waits with `asyncio.sleep` only; nothing outside of the loop may have to happen meanwhile.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    """Waiting for something to happen takes no time, but moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("everything waits for something that will never happen")
        self.seconds += max(0.0, timeout)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.seconds


def now() -> float:
    """Seconds since the loop began."""
    return asyncio.get_running_loop().time()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` in jumping time."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(coroutine)
