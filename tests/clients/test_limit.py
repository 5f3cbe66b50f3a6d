"""LimitedClient: never more at once than it was told, and all of what it was told."""

import asyncio

import pytest

from sae_auto_interp.clients import LimitedClient, RetryingClient, ScriptedClient
from sae_auto_interp.clients.wrappers.concurrency import first_in_line
from sae_auto_interp.clients.wrappers.slots import Places
from sae_auto_interp.errors import (
    ClientError,
    InputError,
    RateLimitedError,
    RefusedRequestError,
    ServerError,
    TimeoutExceededError,
    UnreachableError,
)
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Request, Response, Usage
from tests.support.llm_server import QUESTION, ask
from tests.support.virtual_time import run


class Busy:
    """Counts how many requests are inside it at once; fails every third."""

    model = "busy"

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.asked = 0

    async def generate(self, request: Request) -> Response:
        self.asked += 1
        is_failing = self.asked % 3 == 0
        self.inside += 1
        self.most = max(self.most, self.inside)
        await asyncio.sleep(0.002)
        self.inside -= 1
        if is_failing:
            raise ServerError("every third fails")
        return Response("yes", Usage(n_requests=1), "stop", self.model)

    async def close(self) -> None:
        assert self.inside == 0


@pytest.mark.parametrize("limit", [1, 4])
def test_the_limit_is_reached_and_never_exceeded_even_when_requests_fail(limit: int) -> None:
    busy = Busy()
    client = RetryingClient(LimitedClient(busy, max_concurrency=limit), attempts=20, base_seconds=0.001)
    assert len(ask(client, *[QUESTION] * 30)) == 30
    assert busy.asked > 30
    assert busy.most == limit


def test_a_request_that_waits_for_its_next_attempt_holds_no_place() -> None:
    order: list[str] = []

    def script(request: Request) -> str | ServerError:
        text = request.messages[0].content
        order.append(text)
        return ServerError("down") if text == "first" and order.count("first") == 1 else "yes"

    client = RetryingClient(
        LimitedClient(ScriptedClient(script), max_concurrency=1), sleep=lambda _: asyncio.sleep(0.02)
    )
    first, second = (Request((type(QUESTION.messages[0])("user", text),)) for text in ("first", "second"))
    ask(client, first, second)
    assert order == ["first", "second", "first"]


def test_after_close_it_serves_another_event_loop() -> None:
    busy = ScriptedClient(lambda request: "yes", latency_seconds=0.001)
    client = LimitedClient(busy, max_concurrency=1)
    assert len(ask(client, *[QUESTION] * 3)) == len(ask(client, *[QUESTION] * 3)) == 3


def test_it_is_a_client() -> None:
    client = LimitedClient(ScriptedClient([], model="judge"), max_concurrency=1)
    assert isinstance(client, Client)
    assert client.model == "judge"


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="max_concurrency is 0; it must be at least 1"):
        LimitedClient(ScriptedClient([]), max_concurrency=0)


class Small:
    """A server that takes `room` requests at once and turns all others away."""

    model = "small"

    def __init__(self, room: int, error: type[ClientError] = RateLimitedError) -> None:
        self.room = room
        self.error = error
        self.inside = self.n_refused = self.n_answered = 0

    async def generate(self, request: Request) -> Response:
        if self.inside >= self.room:
            self.n_refused += 1
            await asyncio.sleep(0.0005)
            raise self.error("too many")
        self.inside += 1
        await asyncio.sleep(0.001)
        self.inside -= 1
        self.n_answered += 1
        return Response("yes", Usage(n_requests=1), "stop", self.model)

    async def close(self) -> None:
        """Nothing is open."""


async def all_of(client: Client, n: int) -> None:
    await asyncio.gather(*(client.generate(QUESTION) for _ in range(n)))


def test_it_finds_what_an_overloaded_server_can_take() -> None:
    fixed, adapted = Small(6), Small(6)
    for small, adaptive in ((fixed, False), (adapted, True)):
        limited = LimitedClient(small, max_concurrency=64, adaptive=adaptive)
        client = RetryingClient(limited, attempts=400, base_seconds=0.002, max_seconds=0.002)
        run(all_of(client, 300))
        assert small.n_answered == 300
    assert adapted.n_refused < fixed.n_refused / 4
    assert adapted.n_refused < 0.5 * adapted.n_answered


def test_refusals_of_one_moment_halve_it_once_and_answers_raise_it_by_one_a_round() -> None:
    async def check() -> None:
        places = Places(64)
        entered = [await places.enter() for _ in range(64)]
        for n_decreases in entered:
            places.shrink(n_decreases)
            places.leave()
        assert places.limit == 32
        for _ in range(32):
            places.grow()
        assert places.limit == pytest.approx(33, abs=0.02)
        for _ in range(10_000):
            places.grow()
        assert places.limit == 64
        for _ in range(20):
            places.shrink(places.n_decreases)
        assert places.limit == 1

    asyncio.run(check())


@pytest.mark.parametrize(
    ("error", "limit"),
    [
        (RateLimitedError("slow down"), 8),
        (TimeoutExceededError("no answer"), 8),
        (ServerError("overloaded", status=503), 8),
        (ServerError("broken", status=500), 16),
        (UnreachableError("it broke"), 16),
        (RefusedRequestError("too long"), 16),
    ],
)
def test_only_signs_of_overload_lower_the_limit(error: ClientError, limit: int) -> None:
    client = LimitedClient(ScriptedClient([error, error], latency_seconds=0.01), max_concurrency=16)

    async def fail() -> None:
        await asyncio.gather(client.generate(QUESTION), client.generate(QUESTION), return_exceptions=True)
        assert client.limit == limit

    asyncio.run(fail())


def test_one_who_leaves_gives_its_place_on() -> None:
    async def leave() -> None:
        client = LimitedClient(ScriptedClient(lambda _: "yes", latency_seconds=0.02), max_concurrency=1)
        tasks = [asyncio.create_task(client.generate(QUESTION)) for _ in range(3)]
        await asyncio.sleep(0.005)
        tasks[0].cancel()
        tasks[1].cancel()
        assert (await asyncio.wait_for(tasks[2], 5)).text == "yes"

    asyncio.run(leave())


def test_what_others_wait_for_gets_the_next_place() -> None:
    """Among themselves those keep their order, as the others do."""
    order: list[str] = []

    async def enter(places: Places, name: str) -> None:
        await places.enter()
        order.append(name)

    async def enter_first(places: Places, name: str) -> None:
        with first_in_line():
            await enter(places, name)

    async def scenario() -> None:
        places = Places(1)
        await places.enter()
        names = {"score 1": enter, "score 2": enter, "explanation 1": enter_first, "explanation 2": enter_first}
        waiting = [asyncio.create_task(how(places, name)) for name, how in names.items()]
        await asyncio.sleep(0)
        for _ in names:
            places.leave()
            await asyncio.sleep(0.001)
        await asyncio.gather(*waiting)
        assert places.inside == 1

    asyncio.run(scenario())
    assert order == ["explanation 1", "explanation 2", "score 1", "score 2"]
