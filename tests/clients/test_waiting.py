"""How long a run waits for a server that says how long: shown where it is long, given up where it is too long."""

import asyncio
import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from sae_auto_interp.clients import BreakerClient, OpenAIClient, RetryingClient, ScriptedClient, Waits
from sae_auto_interp.clients.http.failures import retry_after_seconds
from sae_auto_interp.embedders import OpenAIEmbedder
from sae_auto_interp.errors import (
    EndpointLostError,
    RateLimitedError,
    ServerError,
    UnreachableError,
)
from sae_auto_interp.protocols import Client
from tests.support.llm_server import QUESTION, LlmServer, Reply, answer, ask, error
from tests.support.virtual_time import now, run


def in_ten_years() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(days=4000), usegmt=True)


TOO_LONG = ["1801", "1000000000", "9" * 400, in_ten_years(), "1e9"]


def busy(status: int, retry_after: str) -> Reply:
    return Reply(status, error(status, "come back").body, {"Retry-After": retry_after})


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("retry_after", TOO_LONG, ids=lambda said: said[:12])
def test_a_wait_that_is_too_long_ends_the_run_with_its_reason(status: int, retry_after: str) -> None:
    with LlmServer([busy(status, retry_after)]) as server:
        client = RetryingClient(OpenAIClient(base_url=server.base_url, model="m"))
        with pytest.raises(EndpointLostError) as caught:
            ask(client)
        assert len(server.requests) == 1
    said = str(caught.value)
    assert said.startswith("m asks to wait ")
    assert "(Retry-After), and give_up_seconds is 1,800 s: " in said
    assert f"answered {status}: come back" in said
    assert "nothing is lost: run the same command again" in said


def test_the_last_attempt_says_so_too() -> None:
    scripted = ScriptedClient([RateLimitedError("later", retry_after_seconds=61.0)])
    with pytest.raises(EndpointLostError, match="asks to wait 61 s"):
        ask(RetryingClient(scripted, attempts=1, give_up_seconds=60.0))


@pytest.mark.parametrize("retry_after", ["-5", "soon", "nan", "", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_wait_that_is_none_is_our_own(retry_after: str) -> None:
    with LlmServer([busy(429, retry_after), answer("yes")]) as server:
        client = RetryingClient(OpenAIClient(base_url=server.base_url, model="m"), base_seconds=0.0, max_seconds=0.0)
        assert ask(client)[0].text == "yes"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("0.5", 0.5),
        ("soon", None),
        ("-30", 0.0),
        ("nan", None),
        ("inf", None),
        ("1000000000", 1e9),
        ("9" * 400, math.inf),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 +9999", None),
        ("0x10", None),
    ],
)
def test_what_the_header_says(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header) == seconds


def test_an_embedder_gives_up_too() -> None:
    async def embedded(server: LlmServer) -> None:
        embedder = OpenAIEmbedder(base_url=server.base_url, model="e")
        try:
            await embedder.embed(["a"])
        finally:
            await embedder.close()

    with LlmServer([busy(503, "1000000000")]) as server, pytest.raises(EndpointLostError, match="more than ten years"):
        asyncio.run(embedded(server))


def test_long_waits_are_shown_once_and_short_ones_not() -> None:
    told: list[str] = []

    def limited(seconds: float) -> RetryingClient:
        errors = [RateLimitedError("later", retry_after_seconds=seconds)] * 5
        scripted = ScriptedClient([*errors, *["yes"] * 5])
        return RetryingClient(scripted, base_seconds=0.0, tell=told.append, clock=now)

    async def five(client: RetryingClient) -> None:
        await asyncio.gather(*(client.generate(QUESTION) for _ in range(5)))

    run(five(limited(59.0)))
    assert told == []
    run(five(limited(90.0)))
    assert told == ["scripted asks to wait 90 s (Retry-After); the run waits, and goes on by itself"]


def ended_after(seconds: float, client: Client, waits: Waits) -> tuple[BaseException, float]:
    """How a question ends when the waits are ended after so many seconds, and when."""

    async def ended() -> tuple[BaseException, float]:
        asyncio.get_running_loop().call_later(seconds, waits.end)
        (outcome,) = await asyncio.gather(client.generate(QUESTION), return_exceptions=True)
        assert isinstance(outcome, BaseException)
        return outcome, now()

    return run(ended())


def test_a_signal_ends_a_wait_at_once_and_the_refusal_is_what_is_left() -> None:
    waits = Waits()
    scripted = ScriptedClient([RateLimitedError("later", retry_after_seconds=1500.0), "yes"])
    outcome, seconds = ended_after(3.0, RetryingClient(scripted, sleep=waits.sleep), waits)
    assert isinstance(outcome, RateLimitedError)
    assert seconds == pytest.approx(3.0)
    again, _ = ended_after(0.0, RetryingClient(ScriptedClient([ServerError("down"), "yes"]), sleep=waits.sleep), waits)
    assert isinstance(again, ServerError), "no wait begins any more"


def test_a_signal_ends_the_wait_for_a_server_that_is_away() -> None:
    waits = Waits()
    away = ScriptedClient(lambda _: UnreachableError("away", was_sent=False))
    client = BreakerClient(away, clock=now, sleep=waits.sleep, failures_to_open=1, first_wait_seconds=20.0)
    outcome, seconds = ended_after(7.0, client, waits)
    assert isinstance(outcome, EndpointLostError)
    assert seconds == pytest.approx(7.0)


def test_a_wait_that_nobody_ends_takes_its_time() -> None:
    async def slept() -> float:
        await Waits().sleep(12.5)
        return now()

    assert run(slept()) == pytest.approx(12.5)
