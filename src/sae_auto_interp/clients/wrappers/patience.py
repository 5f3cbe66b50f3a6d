"""How often a client asks while it finds out what its endpoint can do: as often as the run will ask.

A run opens `patient_probes` with its own settings around `prepare`; a client that is prepared by itself has the
defaults of `RetryingClient`, which does the asking.
"""

import logging
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

from sae_auto_interp.clients.http.endpoint import HttpEndpoint
from sae_auto_interp.clients.http.reply import Reply
from sae_auto_interp.clients.wrappers.retry import RetryingClient
from sae_auto_interp.clients.wrappers.waiting import GIVE_UP_SECONDS
from sae_auto_interp.errors import BrokenReplyError, UnreachableError
from sae_auto_interp.protocols import Client

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """What the retry of a run is set to."""

    attempts: int = 6
    give_up_seconds: float = GIVE_UP_SECONDS
    tell: Callable[[str], None] = field(default=_log.warning, repr=False)

    async def ask(self, client: Client, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer; raises the error of the last attempt."""
        give_up, tell = self.give_up_seconds, self.tell
        return await RetryingClient(client, attempts=self.attempts, give_up_seconds=give_up, tell=tell).ask_again(ask)

    async def reach(self, client: Client, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer to the first question of all: where there is no server, that is said at once."""
        return await self.ask(client, lambda: _or_is_not_there(ask))


_patience: ContextVar[Patience | None] = ContextVar("patience_of_probes", default=None)


@contextmanager
def patient_probes(patience: Patience) -> Generator[None, None, None]:
    """Inside, clients ask with this patience what their endpoints can do."""
    token = _patience.set(patience)
    try:
        yield
    finally:
        _patience.reset(token)


def current_patience() -> Patience:
    """Return the patience of the run that asks, or the default outside one."""
    return _patience.get() or Patience()


async def model_at(http: HttpEndpoint, path: str, client: Client) -> Reply:
    """What a server says about one model: a JSON object, or 404. Raises its errors, and BrokenReplyError for a page."""

    async def asked() -> Reply:
        response = await http.send("GET", path)
        if response.status_code == 404:
            return response
        try:
            http.object_in(response)
        except BrokenReplyError as error:
            raise BrokenReplyError(f"{error}; is base_url right?") from None
        return response

    return await current_patience().reach(client, asked)


async def _or_is_not_there(ask: Callable[[], Awaitable[T]]) -> T:
    """Where no connection is made at the very beginning, the address is more likely wrong than the server away."""
    try:
        return await ask()
    except UnreachableError as error:
        if not error.is_maybe_billed:
            error.is_retryable = False
        raise
