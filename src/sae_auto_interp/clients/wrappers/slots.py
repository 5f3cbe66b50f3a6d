"""Places for requests at a server: a limit that follows what the server can take, and a queue in order of arrival.

Requests asked inside `first_in_line` wait before all others. An explanation is one: forty scores wait for it. Behind a
thousand scores of other features it would come back when these are all done, and the explanations of many features
with it; the server would stand still between one such wave and the next.

Additive increase, multiplicative decrease (Chiu and Jain, Computer Networks and ISDN Systems 17, 1989), as TCP does
it: a sign of overload halves the limit, and each `limit` answers raise it by one. What was sent before the last
decrease says nothing about the new limit, so a hundred refusals of one moment halve it once.
"""

import asyncio
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

_is_first: ContextVar[bool] = ContextVar("is_first_in_line", default=False)


@contextmanager
def first_in_line() -> Generator[None, None, None]:
    """Whatever is asked inside, by tasks started inside too, gets the next free place: other work waits for it."""
    token = _is_first.set(True)
    try:
        yield
    finally:
        _is_first.reset(token)


class Places:
    """At most `most` requests inside; fewer after signs of overload, one at least."""

    def __init__(self, most: int) -> None:
        self.limit = float(most)
        """At present; whole places are given."""
        self.inside = 0
        self.n_decreases = 0
        self._most = float(most)
        self._first: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> int:
        """Wait for a place; gives the number of decreases so far, which `leave_overloaded` is to be told."""
        is_first = _is_first.get()
        if self.inside < int(self.limit) and not self._first and (is_first or not self._others):
            self.inside += 1
        else:
            await self._wait_in(self._first if is_first else self._others)
        return self.n_decreases

    def leave(self) -> None:
        """Give the place to who is next."""
        self.inside -= 1
        self._let_in()

    def grow(self) -> None:
        """An answer came."""
        if self.limit < self._most:
            self.limit = min(self._most, self.limit + 1.0 / self.limit)

    def shrink(self, n_decreases: int) -> bool:
        """Note a sign of overload by a request that entered after this many decreases; return whether it counts."""
        if n_decreases < self.n_decreases:
            return False
        self.n_decreases += 1
        self.limit = max(1.0, self.limit / 2.0)
        return True

    async def _wait_in(self, line: "deque[asyncio.Future[None]]") -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave()  # it was given and cannot be used
            raise

    def _let_in(self) -> None:
        while (line := self._first or self._others) and self.inside < int(self.limit):
            place = line.popleft()
            if not place.done():
                self.inside += 1
                place.set_result(None)
