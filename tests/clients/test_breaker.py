"""BreakerClient: an outage costs time, not attempts; one that lasts too long ends the run and fails nothing."""

import asyncio
import zlib
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from sae_auto_interp.clients import BreakerClient, LimitedClient, OpenAIClient, RetryingClient, ScriptedClient
from sae_auto_interp.clients.scripted import Answer
from sae_auto_interp.errors import (
    ClientError,
    EndpointLostError,
    InputError,
    NoAccessError,
    RateLimitedError,
    RefusedRequestError,
    ServerError,
    TimeoutExceededError,
    UnreachableError,
)
from sae_auto_interp.types import Message, Request, Response
from tests.support.llm_server import (
    QUESTION,
    LlmServer,
    Received,
    Reply,
    answer,
    ask,
    connection_reset,
    error as error_reply,
)
from tests.support.virtual_time import now, run

REFUSED = UnreachableError("connection refused", was_sent=False)


def away_until(moment: float, error: ClientError = REFUSED) -> Callable[[Request], Answer]:
    return lambda request: error if now() < moment else f"yes {request.messages[-1].content}"


def breaker(script: Callable[[Request], Answer], said: list[str]) -> BreakerClient:
    return BreakerClient(ScriptedClient(script, model="judge"), give_up_seconds=600.0, tell=said.append, clock=now)


def outcomes_of(client: BreakerClient | RetryingClient, n: int) -> tuple[list[Response | BaseException], float]:
    """What came of `n` requests, and how long it took."""
    requests = [Request((Message("user", str(i)),)) for i in range(n)]

    async def together() -> tuple[list[Response | BaseException], float]:
        outcomes = await asyncio.gather(*(client.generate(r) for r in requests), return_exceptions=True)
        return outcomes, now()

    return run(together())


@pytest.mark.parametrize("error", [REFUSED, ServerError("away", status=503), ServerError("away", status=502)])
@pytest.mark.parametrize("n", [1, 3, 40])
def test_an_outage_is_waited_out_and_every_request_is_answered(error: ClientError, n: int) -> None:
    said = list[str]()
    client = breaker(away_until(300.0, error), said)
    outcomes, seconds = outcomes_of(RetryingClient(client), n)
    assert [o.text for o in outcomes if isinstance(o, Response)] == [f"yes {i}" for i in range(n)]
    assert seconds >= 300
    assert len(said) == 2, said
    assert "judge does not answer" in said[0]
    assert "stops if that takes 600 s (give_up_seconds)" in said[0]
    assert "judge answers again after" in said[1]


def test_few_requests_are_sent_while_the_server_is_away() -> None:
    client = breaker(away_until(300.0), [])
    outcomes_of(RetryingClient(client), 40)
    assert isinstance(client.client, ScriptedClient)
    # 40 in flight as it went away, then one after 1, 2, 4, 8, 16, 30, 30, ... s; the others once it is back.
    assert len(client.client.requests) <= 40 + 5 + 300 / 30 + 6 + 40


def test_a_server_that_stays_away_ends_the_run() -> None:
    said = list[str]()
    outcomes, seconds = outcomes_of(RetryingClient(breaker(away_until(1e9), said)), 30)
    assert all(isinstance(o, EndpointLostError) for o in outcomes)
    assert 600 <= seconds < 700
    assert "nothing is lost: run the same command again" in str(outcomes[0])


def test_a_request_that_kills_the_server_fails_by_itself() -> None:
    """Each time it is asked the connection breaks; the others are answered, and the run does not wait for ever."""

    def script(request: Request) -> Answer:
        return UnreachableError("it broke") if request.messages[-1].content in "012" else "yes"

    outcomes, seconds = outcomes_of(RetryingClient(breaker(script, [])), 12)
    assert [type(o) for o in outcomes] == [UnreachableError] * 3 + [Response] * 9
    assert seconds < 600


@pytest.mark.parametrize("error", [TimeoutExceededError("slow"), ServerError("broken", status=500)])
def test_a_server_that_takes_requests_in_and_answers_none_uses_their_attempts_up(error: ClientError) -> None:
    said = list[str]()
    outcomes, _ = outcomes_of(RetryingClient(breaker(lambda _: error, said)), 3)
    assert [type(o) for o in outcomes] == [type(error)] * 3
    assert len(said) == 1


@pytest.mark.parametrize("error", [RateLimitedError("slow down"), RefusedRequestError("too long")])
def test_a_server_that_says_something_is_there(error: ClientError) -> None:
    said = list[str]()
    outcomes, _ = outcomes_of(breaker(lambda _: error, said), 20)
    assert [type(o) for o in outcomes] == [type(error)] * 20
    assert said == []


def test_failures_between_answers_open_nothing() -> None:
    said, count = list[str](), iter(range(1000))
    client = breaker(lambda _: REFUSED if next(count) % 5 else "yes", said)
    outcomes_of(client, 100)
    assert said == []


class FailsFirstTries:
    """Answers every request in the end, and most of them not at the first try; away for a while, if it is told to."""

    def __init__(self, share: float, away: tuple[float, float] = (0.0, 0.0)) -> None:
        self.share, self.away = share, away
        self.tries = Counter[str]()

    def __call__(self, request: Request) -> Answer:
        if self.away[0] <= now() < self.away[1]:
            return REFUSED
        text = request.messages[-1].content
        self.tries[text] += 1
        fails = self.tries[text] == 1 and zlib.crc32(text.encode()) < self.share * 2**32
        return ServerError("not at first", status=500) if fails else f"yes {text}"


def flaky(share: float, said: list[str], away: tuple[float, float] = (0.0, 0.0)) -> RetryingClient:
    """Sixteen requests at once, each a tenth of a second long."""
    server = ScriptedClient(FailsFirstTries(share, away), model="judge", latency_seconds=0.1)
    limited = LimitedClient(server, max_concurrency=16)
    client = BreakerClient(limited, give_up_seconds=600.0, tell=said.append, clock=now)
    return RetryingClient(client, base_seconds=0.2, rng=np.random.default_rng(0))


@pytest.mark.parametrize("share", [0.6, 0.9])
def test_a_server_that_fails_most_first_tries_is_not_waited_for(share: float) -> None:
    """Without the breaker it would take 2,000 * (1 + share) / 16 * 0.1 s: 20 to 24 s."""
    said = list[str]()
    outcomes, seconds = outcomes_of(flaky(share, said), 2000)
    assert [o.text for o in outcomes if isinstance(o, Response)] == [f"yes {i}" for i in range(2000)]
    assert len(said) <= 6, "it may be taken for away a few times, until it is known how often it fails"
    assert seconds < 1.6 * 2000 * (1 + share) / 16 * 0.1


def test_an_outage_of_such_a_server_is_seen_and_waited_out() -> None:
    said = list[str]()
    outcomes, seconds = outcomes_of(flaky(0.4, said, away=(8.0, 308.0)), 2000)
    assert sum(isinstance(o, Response) for o in outcomes) >= 1998, "one in flight may have used its attempts up"
    assert 308 <= seconds < 420
    assert any("answers again after" in line for line in said)


def test_over_a_socket_too() -> None:
    """Every request is answered, and the run does not stop and start."""
    tries, said = Counter[bytes](), list[str]()

    def script(received: Received) -> Reply:
        tries[received.raw_body] += 1
        if tries[received.raw_body] > 1 or zlib.crc32(received.raw_body) >= 0.6 * 2**32:
            return answer("yes")
        return connection_reset() if zlib.crc32(received.raw_body) % 2 else error_reply(500)

    requests = [Request((Message("user", str(i)),)) for i in range(400)]
    with LlmServer(script) as server:
        limited = LimitedClient(OpenAIClient(base_url=server.base_url, model="m"), max_concurrency=16)
        client = RetryingClient(BreakerClient(limited, tell=said.append, first_wait_seconds=0.05), base_seconds=0.01)
        assert [response.text for response in ask(client, *requests)] == ["yes"] * 400
    assert sum(n > 1 for n in tries.values()) > 200
    assert sum("does not answer" in line for line in said) <= 2


def test_an_account_that_is_not_let_in_ends_the_run_at_once() -> None:
    client = breaker(lambda _: NoAccessError("401: no such key"), [])
    outcomes, _ = outcomes_of(RetryingClient(client), 5)
    assert all(isinstance(o, EndpointLostError) and "no such key" in str(o) for o in outcomes)


def test_one_who_leaves_while_trying_leaves_the_trying_to_another() -> None:
    moment = 0.05

    async def leave() -> str:
        started = asyncio.get_running_loop().time()

        def script(request: Request) -> Answer:
            return REFUSED if asyncio.get_running_loop().time() - started < moment else "yes"

        client = BreakerClient(ScriptedClient(script), first_wait_seconds=0.02, tell=lambda _: None)
        tasks = [asyncio.create_task(client.generate(QUESTION)) for _ in range(8)]
        await asyncio.sleep(0.01)
        for task in tasks[:7]:
            task.cancel()
        return (await tasks[7]).text

    assert asyncio.run(leave()) == "yes"


@pytest.mark.parametrize("name", ["failures_to_open", "give_up_seconds", "first_wait_seconds", "max_wait_seconds"])
def test_impossible_settings_are_refused(name: str) -> None:
    settings: dict[str, int] = {name: 0}
    with pytest.raises(InputError, match=f"{name} is 0"):
        BreakerClient(ScriptedClient([]), **settings)  # pyright: ignore[reportArgumentType]
