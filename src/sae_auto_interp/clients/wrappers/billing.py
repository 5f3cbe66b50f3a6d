"""What one request does to the ledger and the budget: room is reserved before, what it did cost is counted after.

`BilledClient` does so around each question of a run. The questions by which an endpoint is tried (`_probing`) are no
such questions, and are sent from within `prepare`: the run opens `charging_probes` around it, a context variable as in
`spending`, and a client that tries its endpoint charges what it sends there.
"""

import json
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

from sae_auto_interp.clients._ledger import Ledger
from sae_auto_interp.clients.http.json_values import JsonObject, as_count, as_object
from sae_auto_interp.clients.http.probing import Post
from sae_auto_interp.clients.responses.codec import StoredAnswer
from sae_auto_interp.clients.wrappers.budget import Bound, Budget, bound_of, upper_bound
from sae_auto_interp.errors import ClientError, MalformedReplyError
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Request, Response
from sae_auto_interp.types.spending import FREE, PROBE, Price, Spent, spending_on

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True)
class Charge:
    """Who pays, and at which price."""

    ledger: Ledger = field(default_factory=Ledger, repr=False)
    price: Price = FREE
    budget: Budget | None = field(default=None, repr=False)

    async def reserve(self, bound: Bound) -> None:
        """Raises BudgetExceededError where there is no room. What is reserved here `sent` gives back."""
        if self.budget is not None:
            await self.budget.reserve(bound)

    async def sent(
        self,
        model: str,
        bound: Bound,
        ask: Callable[[], Awaitable[AnswerT]],
        tokens_of: Callable[[AnswerT], tuple[int, int]],
    ) -> AnswerT:
        """Ask, and count what it cost; `tokens_of` gives an answer's tokens, of the prompt and of the completion."""
        spent: Spent | None = Spent(n_lost=1, lost_tokens=bound.tokens, usd=bound.usd)  # if all else fails: it was sent
        try:
            answer = await ask()
            spent = self._paid(*tokens_of(answer))
            return answer
        except MalformedReplyError as error:
            spent = self._paid(error.prompt_tokens, error.completion_tokens)
            raise
        except ClientError as error:
            spent = spent if error.is_maybe_billed else None
            raise
        finally:
            if spent is not None:
                self.ledger.add(model, spent)
            if self.budget is not None:
                self.budget.give_back(bound)

    def _paid(self, prompt_tokens: int, completion_tokens: int) -> Spent:
        usd = self.price.usd(prompt_tokens, completion_tokens)
        return Spent(n_paid=1, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, usd=usd)


_probes: ContextVar[Charge | None] = ContextVar("charge_of_probes", default=None)


@contextmanager
def charging_probes(charge: Charge) -> Generator[None, None, None]:
    """Inside, what clients ask to find out what an endpoint can do is charged to the stage `probe`."""
    token = _probes.set(charge)
    try:
        with spending_on(PROBE, ""):
            yield
    finally:
        _probes.reset(token)


def charged_probes(post: Post, model: str) -> Post:
    """The same way to send a body, charged to whoever opened `charging_probes`; as it is where nobody did."""
    charge = _probes.get()
    if charge is None:
        return post

    async def charged(path: str, body: Mapping[str, object]) -> JsonObject:
        bound = bound_of([json.dumps(body)], _completion_tokens(body), charge.price)
        await charge.reserve(bound)
        return await charge.sent(model, bound, lambda: post(path, body), _tokens_in)

    return charged


async def charged_probe(client: Client, request: Request) -> Response:
    """The answer to a request that only tries an endpoint; charged as those of `charged_probes`."""
    charge = _probes.get()
    if charge is None:
        return await client.generate(request)
    bound = upper_bound(request, charge.price)
    await charge.reserve(bound)
    return await charge.sent(client.model, bound, lambda: client.generate(request), tokens_of)


def tokens_of(answer: StoredAnswer) -> tuple[int, int]:
    """Of the prompt and of the completion, as the server counted them."""
    return answer.usage.prompt_tokens, answer.usage.completion_tokens


def _completion_tokens(body: Mapping[str, object]) -> int:
    return as_count(body.get("max_tokens")) * max(1, as_count(body.get("n")))


def _tokens_in(reply: JsonObject) -> tuple[int, int]:
    usage = as_object(reply.get("usage"))
    return as_count(usage.get("prompt_tokens")), as_count(usage.get("completion_tokens"))
