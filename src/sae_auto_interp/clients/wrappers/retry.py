"""Asks again where asking again can help: exponential backoff with full jitter.

Before attempt k+1 the wait is uniform in [0, min(max_seconds, base_seconds * 2^(k-1))]; spreading over the whole
interval empties the queue at an overloaded server faster than a fixed wait does (Brooker, "Exponential Backoff And
Jitter", AWS Architecture Blog, 2015). A server's own Retry-After is added to it: asking sooner is asking in vain,
and everyone who was told the same time should still not come back in the same instant.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass, field

import numpy as np

from sae_auto_interp.clients.wrappers.wrapper import AnswerT, Ask, Question, Wrapper
from sae_auto_interp.errors import ClientError, InputError
from sae_auto_interp.protocols import Client

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class RetryingClient(Wrapper):
    """Repeats a request after errors that are worth retrying (`ClientError.is_retryable`).

    After the last attempt the error of that attempt is raised as it came; any other error is raised at once.
    Raises InputError when built with an impossible setting.
    """

    client: Client
    _: KW_ONLY
    attempts: int = 6
    """How often one request is asked at most, the first time included."""
    base_seconds: float = 0.5
    """Upper end of the first wait; it doubles with each attempt."""
    max_seconds: float = 30.0
    """Upper end of the longest wait. A server that asks for more, by Retry-After, gets it: `attempts` bounds that."""
    rng: np.random.Generator = field(default_factory=np.random.default_rng, repr=False)
    """Draws the waits. Freshly seeded, unlike all other randomness here: it changes no result."""
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep, repr=False)

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise InputError(f"attempts is {self.attempts}; it must be at least 1")
        if self.base_seconds < 0 or self.max_seconds < 0:
            raise InputError(f"base_seconds {self.base_seconds} and max_seconds {self.max_seconds} must be at least 0")

    async def _around(self, question: Question, ask: Ask[AnswerT]) -> AnswerT:
        for attempt in range(1, self.attempts):
            try:
                return await ask()
            except ClientError as error:
                if not error.is_retryable:
                    raise
                seconds = self._wait_seconds(attempt, error)
                _log.info("attempt %d of %d failed, next in %.1f s: %s", attempt, self.attempts, seconds, error)
            await self.sleep(seconds)
        return await ask()

    def _wait_seconds(self, attempt: int, error: ClientError) -> float:
        doublings = min(attempt - 1, 60)  # whoever sets a million attempts gets max_seconds, not an overflow
        backoff = self.rng.uniform(0.0, min(self.max_seconds, self.base_seconds * 2.0**doublings))
        asked = error.retry_after_seconds
        if asked is not None and asked > self.max_seconds:
            _log.warning("the server of %s asks to wait %.0f s", self.model, asked)
        return backoff + (asked or 0.0)
