"""LimitedClient: never more at once than it was told, and all of what it was told."""

import asyncio

import pytest

from sae_auto_interp.clients import LimitedClient, RetryingClient, ScriptedClient
from sae_auto_interp.errors import InputError, ServerError
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Request, Response, Usage
from tests.support.llm_server import QUESTION, ask


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
