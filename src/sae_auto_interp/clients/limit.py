"""Bounds how many requests run at once. A run has one limit, and it is this one."""

import asyncio
from dataclasses import KW_ONLY, dataclass
from functools import cached_property

from sae_auto_interp.errors import InputError
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Request, Response


@dataclass(frozen=True, eq=False)
class LimitedClient:
    """Lets at most `max_concurrency` requests through to the wrapped client; the others wait in order of arrival.

    Raises InputError when built with a limit below 1.
    """

    client: Client
    _: KW_ONLY
    max_concurrency: int

    def __post_init__(self) -> None:
        if self.max_concurrency < 1:
            raise InputError(f"max_concurrency is {self.max_concurrency}; it must be at least 1")

    @property
    def model(self) -> str:
        return self.client.model

    async def generate(self, request: Request) -> Response:
        """Answer one request; raises what the wrapped client raises."""
        async with self._places:
            return await self.client.generate(request)

    async def close(self) -> None:
        """Close the wrapped client. A later use may be in another event loop, so it gets a fresh semaphore."""
        self.__dict__.pop("_places", None)
        await self.client.close()

    @cached_property
    def _places(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(self.max_concurrency)
