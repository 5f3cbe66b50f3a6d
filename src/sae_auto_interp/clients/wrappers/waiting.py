"""Waits between two requests: a signal ends them, and one that a server asks for has a longest.

What waits is told of a signal by `WaitEndedError` from its sleep, and then ends with what it has: a request that was
refused for now ends with that refusal, and its unit of work stays open.
"""

import asyncio

from sae_auto_interp.errors import ClientError, EndpointLostError

GIVE_UP_SECONDS = 1800.0
"""Longest wait for a server, unless a run file says another."""
MOST_SHOWN_SECONDS = 10 * 365 * 86_400
"""A longer wait is said to be longer than this."""


class WaitEndedError(Exception):
    """The wait is over before its time, as the run is to end."""


class Waits:
    """All waits of a run; `end` ends those that are on, and those that begin later at once."""

    def __init__(self) -> None:
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Belongs into the event loop of those who wait."""
        self._ended.set()

    async def sleep(self, seconds: float) -> None:
        """Raises WaitEndedError when `end` is called, or was."""
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            return
        raise WaitEndedError


def refuse_long_wait(model: str, error: ClientError, give_up_seconds: float) -> None:
    """Raise EndpointLostError where the server asks to wait for longer than that."""
    asked = error.retry_after_seconds
    if asked is None or asked <= give_up_seconds:
        return
    years = asked > MOST_SHOWN_SECONDS
    wait = "more than ten years" if years else f"{asked:,.0f} s"
    raise EndpointLostError(
        f"{model} asks to wait {wait} (Retry-After), and give_up_seconds is {give_up_seconds:,.0f} s: {error}; nothing "
        "is lost: run the same command again after that time"
    ) from error
