"""`Budget`: no request is sent that could carry a run beyond its cap.

Before a request is sent, the most that it can cost is reserved: `upper_bound` of its tokens at the endpoint's price.
When its answer is there, what it did cost is in the spending log and the reservation is given back. A request for which
there is no room waits while others are in flight, since they mostly give back much; once none is, the run stops.
So what is spent never exceeds the cap, and what is left is less than the bound of one request.

`SpendingLog`: what a run has spent, by stage, feature and model; totals at once, changes for whoever stores them.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sae_auto_interp.clients.wrappers.wrapper import Question
from sae_auto_interp.errors import BudgetExceededError
from sae_auto_interp.types import Request
from sae_auto_interp.types.spending import NOTHING_SPENT, Account, Price, Spent, account_of


def _tell_no_one() -> None:
    """For a spending log that nobody stores."""


class SpendingLog:
    """Begins with what earlier processes of the run spent; one spending log counts for all clients of a run."""

    def __init__(self, before: Spent = NOTHING_SPENT, on_change: Callable[[], None] = _tell_no_one) -> None:
        """`on_change` is called after the first change since `take_changes`, from within the event loop."""
        self.total = before
        self._changes: dict[Account, Spent] = defaultdict(Spent)
        self._on_change = on_change
        self._uncounted_models: set[str] = set()

    def add(self, model: str, spent: Spent) -> None:
        """Charge to whoever asks now (`spending.spending_on`)."""
        is_first = not self._changes
        self._changes[account_of(model)] += spent
        self.total += spent
        if is_first:
            self._on_change()

    def add_cached(self, model: str) -> None:
        """Count an answer that cost nothing."""
        self.add(model, Spent(n_cached=1))

    def is_first_uncounted(self, model: str) -> bool:
        """Whether an answer without a usable count is the first one of its model in this process."""
        is_first = model not in self._uncounted_models
        self._uncounted_models.add(model)
        return is_first

    def put_back(self, changes: Mapping[Account, Spent]) -> None:
        """Changes that could not be stored come with the next ones; they are in the total already."""
        for account, spent in changes.items():
            self._changes[account] += spent

    def take_changes(self) -> Mapping[Account, Spent]:
        """What came since the last call."""
        taken, self._changes = self._changes, defaultdict(Spent)
        return taken


TEMPLATE_TOKENS = 256
"""What a server may put around a request: a system prompt of its own, a date, a preamble."""


MESSAGE_TOKENS = 16
"""What a chat template puts around a message."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The most that one request can cost."""

    prompt_tokens: int
    completion_tokens: int
    usd: float

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


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
    return Bound(prompt, completion, price.usd(prompt, completion))


class Budget:
    """The caps of a run, over all of its clients and all of its processes; None caps nothing."""

    def __init__(
        self, spending_log: SpendingLog, *, max_usd: float | None = None, max_tokens: int | None = None
    ) -> None:
        self.max_usd = math.inf if max_usd is None else max_usd
        self.max_tokens = math.inf if max_tokens is None else max_tokens
        self._ledger = spending_log
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
        """The request is over, and its cost is in the spending log."""
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
