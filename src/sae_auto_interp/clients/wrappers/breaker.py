"""Pauses while a server is away, so that an outage costs time and not a night's worth of failed requests.

After `failures_to_open` requests in a row without a sign of life (more, at a server that fails often and answers in
between), nothing is sent but one request at a time, to see whether the server is back (`_circuit`; the pattern is
Nygard's circuit breaker, Release It!, 2007). A request that was
never taken in (no connection; 502, 503, 504, 529) waits here and has lost no attempt. One that was (it was sent, and
the connection broke, or it took too long) may be what brings the server down: its error is raised, and counts as one
of its attempts.

A server that stays away for `give_up_seconds`, or says that the account is not let in, ends the run
(EndpointLostError): its units stay open, and the same command goes on.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property

from sae_auto_interp.clients.wrappers.circuit import Circuit
from sae_auto_interp.clients.wrappers.waiting import GIVE_UP_SECONDS, WaitEndedError
from sae_auto_interp.clients.wrappers.wrapper import AnswerT, Ask, Question, Wrapper
from sae_auto_interp.errors import (
    BrokenReplyError,
    ClientError,
    EndpointLostError,
    InputError,
    NoAccessError,
    ServerError,
    TimeoutExceededError,
    UnreachableError,
)
from sae_auto_interp.protocols import Client

_log = logging.getLogger(__name__)

_AWAY = (502, 503, 504, 529)


@dataclass(frozen=True, eq=False)
class BreakerClient(Wrapper):
    """Holds requests back while the wrapped client's server is away.

    Raises InputError when built with a setting that is not above 0.
    """

    client: Client
    _: KW_ONLY
    failures_to_open: int = 5
    """Requests in a row without a sign of life, of a server that does not fail otherwise; fewer than a request's
    attempts, so that none runs out of them."""
    give_up_seconds: float = GIVE_UP_SECONDS
    first_wait_seconds: float = 1.0
    max_wait_seconds: float = 30.0
    """Between two tries while the server is away: from the first, doubling up to the longest."""
    tell: Callable[[str], None] = field(default=_log.warning, repr=False)
    """Where it is said that the run waits, and that it goes on."""
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep, repr=False)

    def __post_init__(self) -> None:
        for name in ("failures_to_open", "give_up_seconds", "first_wait_seconds", "max_wait_seconds"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be above 0")

    async def close(self) -> None:
        """Close the wrapped client; a later use begins with a server that is there."""
        vars(self).pop("_circuit", None)
        await self.client.close()

    async def _around(self, question: Question, ask: Ask[AnswerT]) -> AnswerT:
        while True:
            is_probe = await self._admitted()
            try:
                answer = await ask()
            except ClientError as error:
                self._note(error)
                if not (self._circuit.is_open and _was_never_taken_in(error)):
                    raise
            else:
                self._note(None)
                return answer
            finally:
                if is_probe:
                    self._circuit.end_probe()
            await asyncio.sleep(0)  # who waits longer tries next

    async def _admitted(self) -> bool:
        try:
            return await self._circuit.admitted()
        except WaitEndedError:
            self._circuit.give_up(f"{self.model} does not answer, and the run no longer waits for it")
            raise EndpointLostError(self._circuit.lost) from None

    def _note(self, error: ClientError | None) -> None:
        """What an outcome says about the server; raises EndpointLostError where it says that all is over."""
        circuit = self._circuit
        if isinstance(error, NoAccessError):
            circuit.give_up(f"{error}; nothing is lost: run the same command again once this is mended")
            raise EndpointLostError(circuit.lost) from error
        if error is None or not _is_silence(error):
            if circuit.is_open:
                self.tell(f"{self.model} answers again after {circuit.seconds_open:,.0f} s; the run goes on")
            circuit.answered()
        elif circuit.failed():
            self.tell(
                f"{self.model} does not answer ({error}); the run waits until it does, and stops if that takes "
                f"{self.give_up_seconds:,.0f} s (give_up_seconds)"
            )
        elif circuit.is_open and circuit.seconds_open > self.give_up_seconds:
            circuit.give_up(
                f"{self.model} has not answered for {circuit.seconds_open:,.0f} s ({error}); nothing is lost: run the "
                "same command again once it does"
            )

    @cached_property
    def _circuit(self) -> Circuit:
        return Circuit(
            self.failures_to_open,
            self.give_up_seconds,
            self.first_wait_seconds,
            self.max_wait_seconds,
            self.clock,
            self.sleep,
        )


def _is_silence(error: ClientError) -> bool:
    """Whether an error says nothing of a server that works; 429 and 4xx are answers of one that does."""
    if isinstance(error, ServerError):
        return error.status is None or error.status >= 500
    return isinstance(error, UnreachableError | TimeoutExceededError | BrokenReplyError)


def _was_never_taken_in(error: ClientError) -> bool:
    if isinstance(error, ServerError):
        return error.status in _AWAY
    return isinstance(error, UnreachableError) and not error.is_maybe_billed
