"""Counts what each request costs, keeps to the budget, and lets no answer go that is being paid for.

This wrapper stands right around the client that sends: what it sees is sent, and each attempt is counted by itself. A
request that was sent is seen through even when the one who asked has left (ctrl-C, or a run that stops): its answer is
counted, and handed to `keep`. `close` waits for such requests; each of them ends by the client's own timeout.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property

from sae_auto_interp.clients._ledger import Ledger
from sae_auto_interp.clients.responses.codec import StoredAnswer
from sae_auto_interp.clients.wrappers.billing import Charge, tokens_of
from sae_auto_interp.clients.wrappers.budget import Budget, upper_bound
from sae_auto_interp.clients.wrappers.wrapper import AnswerT, Ask, Question, Wrapper
from sae_auto_interp.errors import ClientError
from sae_auto_interp.protocols import Client
from sae_auto_interp.types.spending import FREE, Price

_log = logging.getLogger(__name__)

Keep = Callable[[Question, StoredAnswer], Awaitable[None]]


@dataclass(frozen=True, eq=False)
class BilledClient(Wrapper):
    """Puts what the wrapped client is paid into a ledger, and asks it nothing that a budget has no room for."""

    client: Client
    ledger: Ledger = field(default_factory=Ledger, repr=False)
    _: KW_ONLY
    price: Price = FREE
    budget: Budget | None = field(default=None, repr=False)
    keep: Keep | None = field(default=None, repr=False)
    """Takes the answers for which nobody waits any more."""
    _left: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]], init=False, repr=False)
    """Requests in flight whose asker has left."""

    async def close(self) -> None:
        """Wait for the answers that are being paid for, then close the wrapped client."""
        if self._left:
            _log.warning("waiting for %d answers that are already being paid for", len(self._left))
        while self._left:
            await asyncio.wait(self._left)
        await self.client.close()

    async def _around(self, question: Question, ask: Ask[AnswerT]) -> AnswerT:
        bound = upper_bound(question, self.price)
        charge = self._charge
        await charge.reserve(bound)
        sent = asyncio.ensure_future(charge.sent(self.model, bound, ask, tokens_of))
        try:
            return await asyncio.shield(sent)
        except asyncio.CancelledError:
            if not sent.done():
                self._see_through(question, sent)
            raise

    @cached_property
    def _charge(self) -> Charge:
        return Charge(self.ledger, self.price, self.budget)

    def _see_through(self, question: Question, sent: asyncio.Future[AnswerT]) -> None:
        task = asyncio.ensure_future(self._kept(question, sent))
        self._left.add(task)
        task.add_done_callback(self._left.discard)

    async def _kept(self, question: Question, sent: asyncio.Future[AnswerT]) -> None:
        try:
            answer = await sent
        except ClientError as error:
            _log.info("a request whose asker has left failed: %s", error)
            return
        if self.keep is not None:
            await self.keep(question, answer)
