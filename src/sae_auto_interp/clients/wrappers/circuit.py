"""The state of a circuit breaker: closed while a server answers, open while it is away, lost after too long.

It opens after more failures in a row than this server's usual share of failures explains: with a share
p of failures among the last ones, k in a row have the chance p^k, and less than `UNLIKELY` is taken for an outage. A
server that is always there is believed away after `failures_to_open`; one that fails more than half of the time and
answers in between needs more, and is not waited for in vain.

While it is open, one request at a time is let through to see whether the server is back, after waits that double up to
a maximum; all others wait. Whoever waits longest asks next, so that no single request decides.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sae_auto_interp.errors import EndpointLostError

UNLIKELY = 1e-4
MOST_IN_A_ROW = 50
"""So many failures are an outage, whatever the share of failures was."""
REMEMBERED = 100
"""About how many outcomes the share of failures covers."""


@dataclass
class Circuit:
    """Shared by all requests to one endpoint."""

    failures_to_open: int
    give_up_seconds: float
    first_wait_seconds: float
    max_wait_seconds: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    n_failures: int = field(default=0, init=False)
    """Without an answer in between."""
    lost: str | None = field(default=None, init=False)
    """Why nobody is let through any more."""
    share_failed: float = field(default=0.0, init=False)
    """The share of failures among the last outcomes, without outages."""
    _n_remembered: int = field(default=0, init=False)
    _opened: float | None = field(default=None, init=False)
    _wait_seconds: float = field(default=0.0, init=False)
    _is_probing: bool = field(default=False, init=False)
    _waiting: list[asyncio.Future[None]] = field(default_factory=list[asyncio.Future[None]], init=False)

    @property
    def is_open(self) -> bool:
        return self._opened is not None

    @property
    def seconds_open(self) -> float:
        return 0.0 if self._opened is None else self.clock() - self._opened

    async def admitted(self) -> bool:
        """Wait until this request may be sent; true when it is the one that tries whether the server is back."""
        while True:
            if self.lost is not None:
                raise EndpointLostError(self.lost)
            if not self.is_open:
                return False
            if not self._is_probing:
                if await self._is_to_probe():
                    return True
            else:
                changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting.append(changed)
                await changed

    def answered(self) -> None:
        """The server said something, if only that it is busy."""
        if not self.is_open:
            for is_failure in [True] * self.n_failures + [False]:
                self._remember(is_failure)
        self.n_failures = 0
        if self.is_open:
            self._opened = None
            self._wake()

    def failed(self) -> bool:
        """No sign of life; true when this opens the circuit."""
        self.n_failures += 1
        if self.is_open or self.n_failures < self.n_unlikely:
            return False
        self._opened, self._wait_seconds = self.clock(), self.first_wait_seconds
        return True

    @property
    def n_unlikely(self) -> int:
        """Failures in a row that are an outage."""
        if self.share_failed == 0.0:
            return self.failures_to_open
        unlikely = math.ceil(math.log(UNLIKELY) / math.log(self.share_failed))
        return max(self.failures_to_open, min(MOST_IN_A_ROW, unlikely))

    def end_probe(self) -> None:
        """The one that tried is done, however it ended."""
        self._is_probing = False
        self._wake()

    def give_up(self, reason: str) -> None:
        """Nobody is let through any more."""
        self.lost = reason
        self._wake()

    def _remember(self, is_failure: bool) -> None:
        """A mean of the first outcomes, then one in which older ones fade."""
        self._n_remembered = min(REMEMBERED, self._n_remembered + 1)
        self.share_failed += (is_failure - self.share_failed) / self._n_remembered

    async def _is_to_probe(self) -> bool:
        self._is_probing = True
        try:
            await self.sleep(self._wait_seconds)
        except BaseException:
            self.end_probe()
            raise
        self._wait_seconds = min(self.max_wait_seconds, 2.0 * self._wait_seconds)
        if self.is_open and self.lost is None:
            return True
        self.end_probe()  # an answer to an earlier request came meanwhile
        return False

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for changed in waiting:
            if not changed.done():
                changed.set_result(None)
