"""Answers that were paid for once are not paid for again, in this run or another.

A question is looked up by the model's name and its canonical JSON (`_response_codec`). Identical questions that are
asked at the same time become one: the first is sent, the others wait for its answer. An answer is on disk before it is
handed over, so whatever was made of it can be made again at no cost, also after kill -9. Failures are never stored.
An answer from here is the one that the server gave, its usage included.
"""

import asyncio
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field

from sae_auto_interp.clients.responses.codec import StoredAnswer, answer_key
from sae_auto_interp.clients.responses.store import ResponseStore
from sae_auto_interp.clients.wrappers.wrapper import AnswerT, Ask, Question, Wrapper
from sae_auto_interp.errors import ClientError, NotStoredError, RunStoppedError
from sae_auto_interp.protocols import Client
from sae_auto_interp.types.spending import may_spend


def _count_nothing(model: str) -> None:
    """For a cache that is used without a spending log."""


@dataclass(frozen=True, eq=False)
class CachingClient(Wrapper):
    """Asks the wrapped client only what the store does not hold. Closing it leaves the store open for others."""

    client: Client
    store: ResponseStore = field(repr=False)
    _: KW_ONLY
    namespace: str = ""
    """Tells apart servers that answer differently under one model name."""
    count_cached: Callable[[str], None] = field(default=_count_nothing, repr=False)
    """Called with the model's name for each answer that cost nothing."""
    _asking: dict[bytes, asyncio.Future[StoredAnswer]] = field(
        default_factory=dict[bytes, "asyncio.Future[StoredAnswer]"], init=False, repr=False
    )
    """Questions in flight."""

    def key_of(self, question: Question) -> bytes:
        """Where the answer to a question is stored."""
        return answer_key(self.namespace, self.model, question)

    async def keep(self, question: Question, answer: StoredAnswer) -> None:
        """Store an answer that came by another way."""
        await self.store.keep(self.key_of(question), answer)

    async def _around(self, question: Question, ask: Ask[AnswerT]) -> AnswerT:
        key = self.key_of(question)
        while True:
            answer: StoredAnswer | None = self.store.get(key)
            if answer is None:
                if key not in self._asking:
                    if not may_spend():
                        raise NotStoredError(f"the response cache holds no answer of {self.model} to a question")
                    return await self._asked(key, ask)
                answer = await self._answer_to_another(self._asking[key])
            if answer is not None:
                self.count_cached(self.model)
                return answer  # pyright: ignore[reportReturnType]  # the key says which kind of answer it is

    async def _asked(self, key: bytes, ask: Ask[AnswerT]) -> AnswerT:
        answered: asyncio.Future[StoredAnswer] = asyncio.get_running_loop().create_future()
        self._asking[key] = answered
        try:
            answer = await ask()
            await self.store.keep(key, answer)
            answered.set_result(answer)
            return answer
        except (ClientError, RunStoppedError) as error:
            answered.set_exception(error)
            answered.exception()  # nobody may be waiting, and that is no mistake
            raise
        finally:
            del self._asking[key]
            answered.cancel()  # without effect once there is an answer or an error

    async def _answer_to_another(self, answered: asyncio.Future[StoredAnswer]) -> StoredAnswer | None:
        """What the one who asked first is told; None where it left before it was told anything."""
        await asyncio.wait([answered])
        return None if answered.cancelled() else answered.result()
