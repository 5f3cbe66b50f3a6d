"""Bounds how many requests run at once, and asks for fewer at once while the server is overloaded.

Signs of overload are 429, 503, 529 and no answer in time. The limit is then halved, and grows again by one per round of
answers, up to what the user allowed (`_places`). It begins there too: a server of one's own takes it from the start.
"""

import logging
from dataclasses import KW_ONLY, dataclass
from functools import cached_property

from sae_auto_interp.clients.wrappers.slots import Places, first_in_line
from sae_auto_interp.clients.wrappers.wrapper import AnswerT, Ask, Question, Wrapper
from sae_auto_interp.errors import ClientError, InputError, RateLimitedError, ServerError, TimeoutExceededError
from sae_auto_interp.protocols import Client

__all__ = ["LimitedClient", "first_in_line"]

_log = logging.getLogger(__name__)
_OVERLOADED = (503, 529)


@dataclass(frozen=True, eq=False)
class LimitedClient(Wrapper):
    """Lets at most `max_concurrency` requests through to the wrapped client; the others wait in order of
    arrival, but for those asked inside `first_in_line`.

    Raises InputError when built with a limit below 1.
    """

    client: Client
    _: KW_ONLY
    max_concurrency: int
    adaptive: bool = True
    """Halve the limit at signs of overload, and raise it again slowly."""

    def __post_init__(self) -> None:
        if self.max_concurrency < 1:
            raise InputError(f"max_concurrency is {self.max_concurrency}; it must be at least 1")

    @property
    def limit(self) -> int:
        """Requests that may run at once at present."""
        return int(self._places.limit)

    async def close(self) -> None:
        """Close the wrapped client. A later use may be in another event loop, and begins with all places."""
        vars(self).pop("_places", None)
        await self.client.close()

    async def _around(self, question: Question, ask: Ask[AnswerT]) -> AnswerT:
        places = self._places
        n_decreases = await places.enter()
        try:
            answer = await ask()
        except ClientError as error:
            if self.adaptive and _is_overload(error) and places.shrink(n_decreases):
                _log.info("%s is overloaded: at most %d requests at once now", self.model, places.limit)
            raise
        else:
            places.grow()
            return answer
        finally:
            places.leave()

    @cached_property
    def _places(self) -> Places:
        return Places(self.max_concurrency)


def _is_overload(error: ClientError) -> bool:
    if isinstance(error, ServerError):
        return error.status in _OVERLOADED
    return isinstance(error, RateLimitedError | TimeoutExceededError)
