"""Every wrapper does for a text that is rated what it does for a request: `read` goes through all of them."""

import asyncio
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from sae_auto_interp.clients import (
    BilledClient,
    BreakerClient,
    Budget,
    CachingClient,
    LimitedClient,
    RateLimitClient,
    ReplayClient,
    ResponseStore,
    RetryingClient,
    ScriptedClient,
    SpendingLog,
)
from sae_auto_interp.errors import (
    BudgetExceededError,
    NotStoredError,
    RefusedRequestError,
    ServerError,
    UnreachableError,
)
from sae_auto_interp.pipeline.clients.request_counts import MeteredClient, RequestCounts
from sae_auto_interp.protocols import Client, PromptReader
from sae_auto_interp.types import PromptLogprobs, PromptRequest, Usage
from sae_auto_interp.types.spending import Account, Price, Spent, spending_on
from tests.support.prompt_readers import WORDS, PlacedReader
from tests.support.virtual_time import now, run

ASKED = PromptRequest("one two", top_logprobs=2)
ERROR = ServerError("away", status=503)
WRAPPERS: dict[str, Callable[[Client], PromptReader]] = {
    "billing": BilledClient,
    "breaker": lambda client: BreakerClient(client, clock=now),
    "limit": lambda client: LimitedClient(client, max_concurrency=2),
    "metered": MeteredClient,
    "pace": lambda client: RateLimitClient(client, requests_per_minute=60, clock=now),
    "retry": RetryingClient,
}


class Reader(PlacedReader):
    """Fails so many times first."""

    def __init__(self, n_failures: int = 0, latency_seconds: float = 0.0) -> None:
        self.failures = [ERROR] * n_failures
        super().__init__(lambda _: self.failures.pop() if self.failures else {}, latency_seconds=latency_seconds)


def read_all(client: PromptReader, *texts: str) -> list[PromptLogprobs]:
    async def together() -> list[PromptLogprobs]:
        return await asyncio.gather(*(client.read(PromptRequest(text)) for text in texts))

    return run(together())


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_reading_comes_through_unchanged(name: str) -> None:
    reader = Reader()
    (found,) = run(_together(WRAPPERS[name](reader)))
    assert reader.requests == [ASKED]
    assert [token.token for token in found.tokens] == WORDS.findall(ASKED.text)
    assert found.usage == Usage(3, 0, 1)


async def _together(client: PromptReader) -> list[PromptLogprobs]:
    return [await client.read(ASKED)]


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_client_that_cannot_read_says_so(name: str) -> None:
    with pytest.raises(RefusedRequestError, match="of a given text"):
        read_all(WRAPPERS[name](ScriptedClient([])), "one")


def test_a_reading_is_tried_again() -> None:
    reader = Reader(n_failures=2)
    assert len(read_all(RetryingClient(reader), "one")) == 1
    assert len(reader.requests) == 3


def test_readings_share_the_limit() -> None:
    reader = Reader(latency_seconds=1.0)
    client = LimitedClient(reader, max_concurrency=2)

    async def seconds() -> float:
        await asyncio.gather(*(client.read(PromptRequest(str(i))) for i in range(6)))
        return now()

    assert run(seconds()) == pytest.approx(3.0)


def test_readings_keep_to_the_pace() -> None:
    reader = Reader()

    async def seconds() -> float:
        client = RateLimitClient(reader, requests_per_minute=60, clock=now)
        await asyncio.gather(*(client.read(PromptRequest(str(i))) for i in range(5)))
        return now()

    assert run(seconds()) == pytest.approx(4.0, abs=0.01)


def test_a_reader_that_is_away_is_waited_for() -> None:
    said = list[str]()

    def away(_: str) -> UnreachableError | dict[int, dict[str, float]]:
        return UnreachableError("refused", was_sent=False) if now() < 100 else {}

    client = RetryingClient(BreakerClient(PlacedReader(away), tell=said.append, clock=now))
    assert len(read_all(client, *map(str, range(8)))) == 8
    assert len(said) == 2


def test_a_reading_is_charged_and_kept_below_the_budget() -> None:
    spending_log = SpendingLog()
    price = Price(usd_per_million_prompt_tokens=1e6)

    async def read() -> None:
        client = BilledClient(Reader(), spending_log, price=price, budget=Budget(spending_log, max_tokens=300))
        with spending_on("score", "h.1:3"):
            await client.read(ASKED)
            await client.read(PromptRequest("x" * 300))

    with pytest.raises(BudgetExceededError):
        run(read())
    spent = {Account("score", "h.1:3", "placed"): Spent(n_paid=1, prompt_tokens=3, usd=3.0)}
    assert dict(spending_log.take_changes()) == spent


def test_a_reading_is_asked_once_and_can_be_replayed(tmp_path: Path) -> None:
    reader = Reader()

    async def read(client: Client) -> PromptLogprobs:
        with ResponseStore(tmp_path / "answers.sqlite") as store:
            cached = CachingClient(client, store)
            first, second = await asyncio.gather(cached.read(ASKED), cached.read(ASKED))
            assert first.tokens[0].token == second.tokens[0].token
            return first

    first = asyncio.run(read(reader))
    replayed = asyncio.run(read(ReplayClient(model="placed")))
    assert len(reader.requests) == 1
    assert [t.token for t in replayed.tokens] == [t.token for t in first.tokens]
    assert all(math.isclose(a.logprob, b.logprob) for a, b in zip(replayed.tokens, first.tokens, strict=True))
    with pytest.raises(NotStoredError):
        run(_together(ReplayClient(model="placed")))


def test_readings_are_counted_where_they_are_asked() -> None:
    request_counts = RequestCounts()
    client = MeteredClient(Reader(n_failures=1), request_counts=request_counts)

    async def read() -> int:
        with request_counts.of_feature() as count:
            with pytest.raises(ServerError):
                await client.read(ASKED)
            await asyncio.gather(client.read(ASKED), client.read(ASKED))
        return count.n

    assert run(read()) == 3
    assert (request_counts.n_read, request_counts.n_answered, request_counts.n_failed, request_counts.n_open) == (
        2,
        0,
        1,
        0,
    )
    assert request_counts.usage == Usage(6, 0, 2)
