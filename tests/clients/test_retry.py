"""RetryingClient: what is asked again, how often, and after how long."""

import numpy as np
import pytest

from sae_auto_interp.clients import OpenAIClient, RetryingClient, ScriptedClient
from sae_auto_interp.clients.scripted import Answer
from sae_auto_interp.errors import (
    ClientError,
    InputError,
    MalformedReplyError,
    RateLimitedError,
    RefusedRequestError,
    ServerError,
    TimeoutExceededError,
    UnreachableError,
)
from sae_auto_interp.protocols import Client
from tests.support.llm_server import LlmServer, answer, ask, error, rate_limited


class Sleeper:
    """Stands in for `asyncio.sleep`: takes no time and remembers how long it was asked for."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)


def retrying(
    client: Client,
    sleeper: Sleeper,
    attempts: int = 6,
    base_seconds: float = 0.5,
    max_seconds: float = 30.0,
    seed: int = 0,
) -> RetryingClient:
    rng = np.random.default_rng(seed)
    return RetryingClient(
        client, attempts=attempts, base_seconds=base_seconds, max_seconds=max_seconds, rng=rng, sleep=sleeper
    )


@pytest.mark.parametrize("kind", [UnreachableError, TimeoutExceededError, RateLimitedError, ServerError])
def test_an_error_worth_retrying_is_retried_until_it_passes(kind: type[ClientError]) -> None:
    scripted, sleeper = ScriptedClient([kind("once"), kind("twice"), "yes"]), Sleeper()
    assert ask(retrying(scripted, sleeper))[0].text == "yes"
    assert len(scripted.requests) == 3
    assert len(sleeper.waits) == 2


@pytest.mark.parametrize("kind", [RefusedRequestError, MalformedReplyError])
def test_any_other_error_is_raised_at_once(kind: type[ClientError]) -> None:
    scripted, sleeper = ScriptedClient([kind("no"), "yes"]), Sleeper()
    with pytest.raises(kind, match="no"):
        ask(retrying(scripted, sleeper))
    assert (len(scripted.requests), sleeper.waits) == (1, [])


def test_the_last_error_is_raised_unchanged() -> None:
    errors: list[Answer] = [ServerError("first"), UnreachableError("second"), RateLimitedError("third", 9.0)]
    sleeper = Sleeper()
    with pytest.raises(RateLimitedError) as caught:
        ask(retrying(ScriptedClient(errors), sleeper, attempts=3))
    assert caught.value is errors[-1]
    assert len(sleeper.waits) == 2, "no wait after the last attempt"


def test_one_attempt_never_retries() -> None:
    sleeper = Sleeper()
    with pytest.raises(ServerError):
        ask(retrying(ScriptedClient([ServerError("down"), "yes"]), sleeper, attempts=1))
    assert sleeper.waits == []


def waits_of(error: ClientError, seed: int = 0, max_seconds: float = 30.0) -> list[float]:
    sleeper = Sleeper()
    with pytest.raises(ClientError):
        ask(retrying(ScriptedClient([error] * 9), sleeper, attempts=9, seed=seed, max_seconds=max_seconds))
    return sleeper.waits


def test_waits_are_uniform_under_a_bound_that_doubles_up_to_the_maximum() -> None:
    waits = np.array([waits_of(ServerError("down"), seed, max_seconds=8.0) for seed in range(300)])
    bounds = np.array([0.5, 1, 2, 4, 8, 8, 8, 8])
    assert (waits <= bounds).all()
    # A uniform share of the bound has mean 1/2 and standard deviation 1/sqrt(12): 5 standard errors here.
    np.testing.assert_allclose((waits / bounds).mean(axis=0), 0.5, atol=5 / np.sqrt(12 * 300))


def test_very_many_attempts_wait_the_maximum_and_do_not_overflow() -> None:
    sleeper = Sleeper()
    with pytest.raises(ServerError):
        ask(retrying(ScriptedClient([ServerError("down")] * 1200), sleeper, attempts=1200, max_seconds=2.0))
    assert max(sleeper.waits) <= 2.0


def test_the_same_generator_gives_the_same_waits() -> None:
    assert waits_of(ServerError("down"), seed=3) == waits_of(ServerError("down"), seed=3)
    assert waits_of(ServerError("down"), seed=3) != waits_of(ServerError("down"), seed=4)


def test_the_servers_waiting_time_is_kept_and_the_jitter_comes_on_top() -> None:
    waits = waits_of(RateLimitedError("slow down", retry_after_seconds=10.0), max_seconds=2.0)
    assert all(10.0 <= wait <= 12.0 for wait in waits)
    assert len(set(waits)) == len(waits)


def test_a_waiting_time_above_the_maximum_is_kept_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert min(waits_of(RateLimitedError("come back later", retry_after_seconds=600.0))) >= 600
    assert "asks to wait 600 s" in caplog.text


def test_over_a_real_socket_429_then_200_succeeds_after_the_time_that_the_server_named() -> None:
    sleeper = Sleeper()
    with LlmServer([rate_limited("3"), error(503), answer("yes")]) as server:
        client = OpenAIClient(base_url=server.base_url, model="judge", api_key_env="NOT_SET_ANYWHERE")
        assert ask(retrying(client, sleeper))[0].text == "yes"
        assert len(server.requests) == 3
        assert server.requests[0].body == server.requests[2].body
    assert 3.0 <= sleeper.waits[0] <= 3.5
    assert sleeper.waits[1] <= 1.0


def test_it_is_a_client_and_closes_what_it_wraps() -> None:
    wrapped = RetryingClient(ScriptedClient(["yes"], model="judge"))
    assert isinstance(wrapped, Client)
    assert wrapped.model == "judge"
    assert ask(wrapped)[0].text == "yes"


@pytest.mark.parametrize(("setting", "value"), [("attempts", 0), ("base_seconds", -1.0), ("max_seconds", -0.1)])
def test_impossible_settings_are_refused(setting: str, value: float) -> None:
    settings: dict[str, float] = {setting: value}
    with pytest.raises(InputError, match=f"{setting}.* {value}.* must be at least"):
        RetryingClient(ScriptedClient([]), **settings)  # pyright: ignore[reportArgumentType]
