"""`Budget`: no request is sent that could carry a run beyond its cap.

Before a request is sent, the most that it can cost is reserved: `upper_bound` of its tokens at the endpoint's price.
When its answer is there, what it did cost has been put into the ledger and the reservation is given back. A request for
which there is no room waits while others are in flight, since they mostly give back much; once none is, the run stops.
So what is spent never exceeds the cap, and what is left is less than the bound of one request.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from sae_auto_interp.clients._ledger import Ledger
from sae_auto_interp.clients.wrappers.wrapper import Question
from sae_auto_interp.errors import BudgetExceededError
from sae_auto_interp.types import Request
from sae_auto_interp.types.spending import Price

TEMPLATE_TOKENS = 256
"""What a server may put around a request: a system prompt of its own, a date, a preamble."""
MESSAGE_TOKENS = 16
"""What a chat template puts around a message."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The most that one request can cost."""

    tokens: int
    usd: float


def upper_bound(question: Question, price: Price) -> Bound:
    """A token is at least one byte of UTF-8, in every tokenizer with a vocabulary of bytes; the answer is capped."""
    if isinstance(question, Request):
        texts = [message.content for message in question.messages] + [question.schema or ""]
        completion = question.sampling.max_tokens
    else:
        texts, completion = [question.text], 1  # a reader asks for one token, which it throws away
    return bound_of(texts, completion, price)


def bound_of(texts: Sequence[str], completion: int, price: Price) -> Bound:
    """The same of texts that are sent in one request, and the tokens that an answer may have."""
    n_bytes = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    prompt = n_bytes + MESSAGE_TOKENS * len(texts) + TEMPLATE_TOKENS
    return Bound(prompt + completion, price.usd(prompt, completion))


class Budget:
    """The caps of a run, over all of its clients and all of its processes; None caps nothing."""

    def __init__(self, ledger: Ledger, *, max_usd: float | None = None, max_tokens: int | None = None) -> None:
        self.max_usd = math.inf if max_usd is None else max_usd
        self.max_tokens = math.inf if max_tokens is None else max_tokens
        self._ledger = ledger
        self._n_reserved = self._reserved_tokens = 0
        self._reserved_usd = 0.0
        self._waiting: list[asyncio.Future[None]] = []
        self._stopped: str | None = None

    async def reserve(self, bound: Bound) -> None:
        """Raises BudgetExceededError where there is no room left, nor will be."""
        while True:
            if self._stopped is not None:
                raise BudgetExceededError(self._stopped)
            if self._has_room(bound):
                break
            if self._n_reserved == 0:
                self._stopped = self._farewell(bound)
                self._wake()
                continue
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
        self._add(1, bound)

    def give_back(self, bound: Bound) -> None:
        """The request is over, and its cost is in the ledger."""
        self._add(-1, bound)
        self._wake()

    def _add(self, sign: int, bound: Bound) -> None:
        self._n_reserved += sign
        self._reserved_tokens += sign * bound.tokens
        # Adding and taking away leaves a rounding error, which must not add up over a run.
        self._reserved_usd = self._reserved_usd + sign * bound.usd if self._n_reserved else 0.0

    def _has_room(self, bound: Bound) -> bool:
        spent = self._ledger.total
        return (
            spent.usd + self._reserved_usd + bound.usd <= self.max_usd
            and spent.tokens + self._reserved_tokens + bound.tokens <= self.max_tokens
        )

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _farewell(self, bound: Bound) -> str:
        spent = self._ledger.total
        if spent.usd + bound.usd > self.max_usd:
            state = f"${spent.usd:.4f} of ${self.max_usd:g} is spent, and the next request may cost ${bound.usd:.4f}"
            cap = "budget.max_usd"
        else:
            state = f"{spent.tokens:,} of {self.max_tokens:,} tokens are spent, and the next request may take "
            state, cap = state + f"{bound.tokens:,}", "budget.max_tokens"
        return f"the budget is used up: {state}; nothing is lost: raise {cap} and run the same command again to go on"
