"""Counts what each request costs, keeps to the budget, and lets no answer go that is being paid for.

This wrapper stands right around the client that sends: what it sees is sent, and each attempt is counted by itself. A
request that was sent is seen through even when the one who asked has left (ctrl-C, or a run that stops): its answer is
counted, and handed to `keep`. `close` waits for such requests; each of them ends by the client's own timeout.

What one request does to the spending log and the budget: room is reserved before, what it did cost is counted after.

A paid answer whose tokens are not known (`_usage`), or are more than the request can have taken, costs what was
reserved for it: nothing that is paid for counts as 0. That is said once for each model.

`BilledClient` does so around each question of a run. The questions by which an endpoint is tried (`_probing`) are no
such questions, and are sent from within `prepare`: the run opens `charging_probes` around it, a context variable as in
`spending`, and a client that tries its endpoint charges what it sends there.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property, partial
from typing import TypeAlias, TypeVar

from sae_auto_interp.clients.http.json_values import JsonObject, as_count
from sae_auto_interp.clients.http.probing import Post
from sae_auto_interp.clients.http.usage import UNCOUNTED, chat_usage
from sae_auto_interp.clients.responses.codec import StoredAnswer
from sae_auto_interp.clients.wrappers.budget import Bound, Budget, SpendingLog, bound_of, upper_bound
from sae_auto_interp.clients.wrappers.wrapper import AnswerT, Ask, Question, Wrapper
from sae_auto_interp.errors import ClientError, MalformedReplyError
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Request, Response, Usage
from sae_auto_interp.types.spending import FREE, PROBE, Price, Spent, spending_on

_log = logging.getLogger(__name__)
PaidT = TypeVar("PaidT")


Tokens: TypeAlias = tuple[int, int]
"""Tokens of the prompt and of the completion."""


_TIMES, _BESIDE = 4, 1 << 15
"""A count is believed up to this many times the bound of the request plus this many tokens: servers put prompts of
their own around a request, and some models think beyond `max_tokens`."""


@dataclass(frozen=True, slots=True)
class Charge:
    """Who pays, and at which price."""

    spending_log: SpendingLog = field(default_factory=SpendingLog, repr=False)
    price: Price = FREE
    budget: Budget | None = field(default=None, repr=False)
    tell: Callable[[str], None] = field(default=_log.warning, repr=False)
    """Where it is said that a model's tokens are not known."""

    async def reserve(self, bound: Bound) -> None:
        """Raises BudgetExceededError where there is no room. What is reserved here `sent` gives back."""
        if self.budget is not None:
            await self.budget.reserve(bound)

    async def sent(
        self,
        model: str,
        bound: Bound,
        ask: Callable[[], Awaitable[PaidT]],
        tokens_of: Callable[[PaidT], Tokens | None],
    ) -> PaidT:
        """Ask, and count what it cost; `tokens_of` gives an answer's tokens, None where they are not known."""
        spent: Spent | None = Spent(n_lost=1, lost_tokens=bound.tokens, usd=bound.usd)  # if all else fails: it was sent
        try:
            answer = await ask()
            spent = self._paid(model, tokens_of(answer), bound)
            return answer
        except MalformedReplyError as error:
            prompt, completion = error.prompt_tokens, error.completion_tokens
            spent = self._paid(model, None if prompt is None or completion is None else (prompt, completion), bound)
            raise
        except ClientError as error:
            spent = spent if error.is_maybe_billed else None
            raise
        finally:
            if spent is not None:
                self.spending_log.add(model, spent)
            if self.budget is not None:
                self.budget.give_back(bound)

    def _paid(self, model: str, tokens: Tokens | None, bound: Bound) -> Spent:
        believed = tokens if tokens is not None and is_believable(tokens, bound) else None
        if believed is None and self.spending_log.is_first_uncounted(model):
            self.tell(
                f"{model} does not say how many tokens an answer took, or says what cannot be: such answers are "
                "charged at the most that they can have taken"
            )
        prompt, completion = believed or (bound.prompt_tokens, bound.completion_tokens)
        usd, n_uncounted = self.price.usd(prompt, completion), int(believed is None)
        return Spent(1, prompt_tokens=prompt, completion_tokens=completion, usd=usd, n_uncounted=n_uncounted)


def is_believable(tokens: Tokens, bound: Bound) -> bool:
    """Whether a request of this bound can have taken so much."""
    prompt, completion = tokens
    return prompt <= _TIMES * bound.prompt_tokens + _BESIDE and completion <= _TIMES * bound.completion_tokens + _BESIDE


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


def tokens_of(answer: StoredAnswer) -> Tokens | None:
    """As the server counted them; None where it did not."""
    return _tokens(answer.usage)


def _completion_tokens(body: Mapping[str, object]) -> int:
    return as_count(body.get("max_tokens")) * max(1, as_count(body.get("n")))


def _tokens_in(reply: JsonObject) -> Tokens | None:
    return _tokens(chat_usage(reply))


def _tokens(usage: Usage) -> Tokens | None:
    return None if usage.n_uncounted else (usage.prompt_tokens, usage.completion_tokens)


Keep = Callable[[Question, StoredAnswer], Awaitable[None]]


@dataclass(frozen=True, eq=False)
class BilledClient(Wrapper):
    """Puts what the wrapped client is paid into a spending log, and asks it nothing that a budget has no room for."""

    client: Client
    spending_log: SpendingLog = field(default_factory=SpendingLog, repr=False)
    _: KW_ONLY
    price: Price = FREE
    budget: Budget | None = field(default=None, repr=False)
    keep: Keep | None = field(default=None, repr=False)
    """Takes the answers for which nobody waits any more."""
    tell: Callable[[str], None] = field(default=_log.warning, repr=False)
    """Where it is said that the wrapped client's tokens are not known."""
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
        asked = partial(_believed, ask, bound)
        sent = asyncio.ensure_future(charge.sent(self.model, bound, asked, tokens_of))
        try:
            return await asyncio.shield(sent)
        except asyncio.CancelledError:
            if not sent.done():
                self._see_through(question, sent)
            raise

    @cached_property
    def _charge(self) -> Charge:
        return Charge(self.spending_log, self.price, self.budget, self.tell)

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


async def _believed(ask: Ask[AnswerT], bound: Bound) -> AnswerT:
    """The answer; a count that cannot be is taken out of it, so that no result holds it."""
    answer = await ask()
    tokens = tokens_of(answer)
    return answer if tokens is None or is_believable(tokens, bound) else replace(answer, usage=UNCOUNTED)
