"""What the wrappers share: one of them wraps a client, has its protocol, and does its part around each question.

A question is a `Request` (something is generated) or a `PromptRequest` (a text is rated): a wrapper treats both alike
in `_around`. Reading needs a client that can read; any other refuses it.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

from sae_auto_interp.errors import RefusedRequestError
from sae_auto_interp.protocols import Client, PromptReader
from sae_auto_interp.types import PromptLogprobs, PromptRequest, Request, Response

Question: TypeAlias = Request | PromptRequest
AnswerT = TypeVar("AnswerT", Response, PromptLogprobs)
Ask: TypeAlias = Callable[[], Awaitable[AnswerT]]


class Wrapper(ABC):
    """Base of the wrappers; each says in `_around` what it does before and after the client is asked."""

    client: Client

    @property
    def model(self) -> str:
        return self.client.model

    async def generate(self, request: Request) -> Response:
        """Answer one request; raises what the wrapped client raises."""
        return await self._around(request, lambda: self.client.generate(request))

    async def read(self, request: PromptRequest) -> PromptLogprobs:
        """Rate one text; raises what the wrapped client raises, and RefusedRequestError where it cannot read."""
        client = self.client
        if not isinstance(client, PromptReader):
            raise RefusedRequestError(f"the client of {client.model} does not rate the tokens of a given text")
        return await self._around(request, lambda: client.read(request))

    async def close(self) -> None:
        """Close the wrapped client."""
        await self.client.close()

    @abstractmethod
    async def _around(self, question: Question, ask: Ask[AnswerT]) -> AnswerT: ...
