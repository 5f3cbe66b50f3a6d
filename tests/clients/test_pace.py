"""RateLimitClient: the rates that a provider allows are kept, evenly, and used up."""

import asyncio

import numpy as np
import pytest

from sae_auto_interp.clients import RateLimitClient, ScriptedClient
from sae_auto_interp.clients.wrappers.concurrency import first_in_line
from sae_auto_interp.errors import InputError
from sae_auto_interp.types import Message, Request, Response, Sampling, Usage
from tests.support.llm_server import QUESTION
from tests.support.virtual_time import now, run

NOTHING = Usage(0, 0, 1)


def moments(
    n: int,
    usage: Usage = NOTHING,
    request: Request = QUESTION,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
) -> np.ndarray:
    """When each of `n` requests was sent, in seconds."""
    sent = list[float]()

    def script(_: Request) -> Response:
        sent.append(now())
        return Response("yes", usage, "stop", "m")

    client = RateLimitClient(
        ScriptedClient(script), clock=now, requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute
    )

    async def together() -> None:
        await asyncio.gather(*(client.generate(request) for _ in range(n)))

    run(together())
    return np.array(sent)


def test_requests_per_minute_are_kept_evenly_and_used_up() -> None:
    sent = moments(601, requests_per_minute=600.0)
    assert sent[-1] == pytest.approx(59.1, abs=0.2), "ten at once, then ten a second"
    for window in (1.0, 10.0, 60.0):
        most = max(np.searchsorted(sent, at + window, side="left") - i for i, at in enumerate(sent))
        assert most <= 10 * window + 10 + 1e-6
    np.testing.assert_allclose(np.diff(sent[12:]), 0.1, atol=1e-6)


def test_slow_rates_send_one_at_a_time() -> None:
    np.testing.assert_allclose(moments(4, requests_per_minute=6.0), [0, 10, 20, 30], atol=1e-6)


def test_tokens_per_minute_are_those_that_the_server_counted() -> None:
    """The guess is 7 + 500 tokens; each answer says that it was 100, and the rest is used by the next ones."""
    request = Request((Message("user", "x" * 28),), Sampling(max_tokens=500))
    sent = moments(200, Usage(60, 40, 1), request, tokens_per_minute=60_000.0)
    rate = 100 * 190 / (sent[-1] - sent[9])
    assert rate == pytest.approx(1000, rel=0.1), "tokens per second"


def test_a_request_larger_than_the_bucket_passes_and_is_waited_for_afterwards() -> None:
    request = Request((Message("user", "x" * 4000),), Sampling(max_tokens=1000))
    sent = moments(3, Usage(1000, 1000, 1), request, tokens_per_minute=6000.0)
    np.testing.assert_allclose(np.diff(sent), 20, atol=0.01)


def test_without_rates_nothing_waits() -> None:
    assert moments(100)[-1] == 0


def test_after_close_it_serves_another_event_loop() -> None:
    client = RateLimitClient(ScriptedClient(lambda _: "yes"), requests_per_minute=1e6)

    async def use() -> None:
        await asyncio.gather(*(client.generate(QUESTION) for _ in range(5)))
        await client.close()

    asyncio.run(use())
    asyncio.run(use())


@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute"])
def test_a_rate_of_nothing_is_refused(name: str) -> None:
    settings: dict[str, float] = {name: 0.0}
    with pytest.raises(InputError, match=f"{name} is 0"):
        RateLimitClient(ScriptedClient([]), **settings)  # pyright: ignore[reportArgumentType]


def test_what_others_wait_for_goes_first() -> None:
    order: list[str] = []

    class Noting:
        model = "noting"

        async def generate(self, request: Request) -> Response:
            order.append(request.messages[0].content)
            return Response("yes", Usage(n_requests=1), "stop", self.model)

        async def close(self) -> None:
            """Nothing is open."""

    async def scenario() -> None:
        client = RateLimitClient(Noting(), requests_per_minute=60)

        def asked(text: str) -> "asyncio.Task[Response]":
            return asyncio.create_task(client.generate(Request((Message("user", text),))))

        scores = [asked(f"score {i}") for i in range(4)]
        await asyncio.sleep(0)
        with first_in_line():
            explanation = asked("explanation")
        await asyncio.gather(*scores, explanation)

    run(scenario())
    assert order == ["score 0", "score 1", "explanation", "score 2", "score 3"]
