"""Asks again where asking again can help: exponential backoff with full jitter.

Before attempt k+1 the wait is uniform in [0, min(max_seconds, base_seconds * 2^(k-1))]; spreading over the whole
interval empties the queue at an overloaded server faster than a fixed wait does (Brooker, "Exponential Backoff And
Jitter", AWS Architecture Blog, 2015). A server's own Retry-After is added to it: asking sooner is asking in vain,
and everyone who was told the same time should still not come back in the same instant. One that is longer than
`give_up_seconds` ends the run, with the reason.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import TypeVar

import numpy as np

from sae_auto_interp.clients.wrappers.waiting import GIVE_UP_SECONDS, WaitEndedError, refuse_long_wait
from sae_auto_interp.clients.wrappers.wrapper import AnswerT, Ask, Question, Wrapper
from sae_auto_interp.errors import ClientError, InputError
from sae_auto_interp.protocols import Client

T = TypeVar("T")
_log = logging.getLogger(__name__)

LONG_SECONDS = 60.0
"""Whoever looks on is told of waits that are longer."""


@dataclass(frozen=True, eq=False)
class RetryingClient(Wrapper):
    """Repeats a request after errors that are worth retrying (`ClientError.is_retryable`).

    After the last attempt the error of that attempt is raised as it came; any other error is raised at once. A server
    that asks for a wait of more than `give_up_seconds` ends it all: EndpointLostError.
    Raises InputError when built with an impossible setting.
    """

    client: Client
    _: KW_ONLY
    attempts: int = 6
    """How often one request is asked at most, the first time included."""
    base_seconds: float = 0.5
    """Upper end of the first wait; it doubles with each attempt."""
    max_seconds: float = 30.0
    """Upper end of the longest wait. A server that asks for more, by Retry-After, gets it, up to `give_up_seconds`."""
    give_up_seconds: float = GIVE_UP_SECONDS
    rng: np.random.Generator = field(default_factory=np.random.default_rng, repr=False)
    """Draws the waits. Freshly seeded, unlike all other randomness here: it changes no result."""
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep, repr=False)
    """May raise `WaitEndedError`: the error that was waited for is then the last one."""
    tell: Callable[[str], None] = field(default=_log.warning, repr=False)
    """Where long waits are said, once for all who wait at the same time."""
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    _told_until: list[float] = field(default_factory=list[float], init=False, repr=False)
    """When the wait that was told last is over."""

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise InputError(f"attempts is {self.attempts}; it must be at least 1")
        if self.base_seconds < 0 or self.max_seconds < 0:
            raise InputError(f"base_seconds {self.base_seconds} and max_seconds {self.max_seconds} must be at least 0")

    async def _around(self, question: Question, ask: Ask[AnswerT]) -> AnswerT:
        return await self.ask_again(ask)

    async def ask_again(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer to anything that is asked; raises the error of the last attempt."""
        for attempt in range(1, self.attempts + 1):
            try:
                return await ask()
            except ClientError as error:
                refuse_long_wait(self.model, error, self.give_up_seconds)
                if not error.is_retryable or attempt == self.attempts:
                    raise
                seconds = self._wait_seconds(attempt, error)
                _log.info("attempt %d of %d failed, next in %.1f s: %s", attempt, self.attempts, seconds, error)
                refused = error
            try:
                await self.sleep(seconds)
            except WaitEndedError:
                raise refused from None
        raise AssertionError("the last attempt ends in an answer or an error")

    def _wait_seconds(self, attempt: int, error: ClientError) -> float:
        doublings = min(attempt - 1, 60)  # whoever sets a million attempts gets max_seconds, not an overflow
        backoff = self.rng.uniform(0.0, min(self.max_seconds, self.base_seconds * 2.0**doublings))
        asked = error.retry_after_seconds or 0.0
        if asked > LONG_SECONDS:
            self._tell(asked)
        return backoff + asked

    def _tell(self, seconds: float) -> None:
        now = self.clock()
        if not self._told_until or now >= self._told_until[0]:
            self._told_until[:] = [now + seconds]
            self.tell(f"{self.model} asks to wait {seconds:,.0f} s (Retry-After); the run waits, and goes on by itself")
