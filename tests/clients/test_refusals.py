"""RefusalLimitClient: the same refusal many times in a row ends the run, whatever counts and numbers stand in it."""

import asyncio
from collections.abc import Sequence

import pytest

from sae_auto_interp.clients import RefusalLimitClient, ScriptedClient
from sae_auto_interp.clients.scripted import Answer
from sae_auto_interp.errors import (
    EndpointLostError,
    InputError,
    MalformedReplyError,
    PromptTooLongError,
    RateLimitedError,
    RefusedRequestError,
    ServerError,
)
from sae_auto_interp.types import Message, Request, Response


def refusal(number: int) -> RefusedRequestError:
    return RefusedRequestError(f"http://host/v1 answered 400: no room for {600 + number} tokens (id req_{number:x}f0)")


def outcomes(script: Sequence[Answer], limit: int = 5, *, at_once: bool = False) -> tuple[list[object], ScriptedClient]:
    """What came of one request per answer, one after the other or all at once; and who was asked."""
    scripted = ScriptedClient(script, model="judge", latency_seconds=0.001 if at_once else 0.0)
    client = RefusalLimitClient(scripted, max_same_refusals=limit)
    requests = [Request((Message("user", str(i)),)) for i in range(len(script))]

    async def ask() -> list[object]:
        if at_once:
            return list(await asyncio.gather(*map(client.generate, requests), return_exceptions=True))
        found: list[object] = []
        for request in requests:
            found += await asyncio.gather(client.generate(request), return_exceptions=True)
        return found

    return asyncio.run(ask()), scripted


def kinds(found: list[object]) -> str:
    """A letter each: answered, refused, the end of the run, any other error."""
    letters: dict[type, str] = {Response: "a", RefusedRequestError: "r", EndpointLostError: "E"}
    return "".join(letters.get(type(each), "x") for each in found)


def test_the_last_of_a_streak_ends_the_run_and_nothing_more_is_asked() -> None:
    found, scripted = outcomes([refusal(i) for i in range(9)])
    assert kinds(found) == "rrrrEEEEE"
    assert len(scripted.requests) == 5
    said = str(found[-1])
    assert "judge refused 5 requests in a row in the same words" in said
    assert "no room for 604 tokens" in said
    assert "the same command goes on" in said


def test_it_may_begin_after_many_answers() -> None:
    found, _ = outcomes(["yes"] * 12 + [refusal(i) for i in range(5)])
    assert kinds(found) == "a" * 12 + "rrrrE"


@pytest.mark.parametrize(
    "between",
    ["yes", MalformedReplyError("the completion holds no text"), RefusedRequestError("something quite different")],
    ids=["an answer", "a reply that cannot be read", "another refusal"],
)
def test_what_ends_a_streak(between: Answer) -> None:
    found, _ = outcomes([*map(refusal, range(4)), between, *map(refusal, range(4))])
    assert "E" not in kinds(found)


@pytest.mark.parametrize("between", [RateLimitedError("429: slow down"), ServerError("503: busy", status=503)])
def test_what_says_nothing_of_the_request_does_not_end_it(between: Answer) -> None:
    found, _ = outcomes([*map(refusal, range(4)), between, refusal(4)])
    assert kinds(found) == "rrrrxE"


def test_prompts_that_are_too_long_are_left_to_who_can_shorten_them() -> None:
    found, _ = outcomes([PromptTooLongError(f"request ({i} tokens) exceeds the context") for i in range(9)])
    assert kinds(found) == "x" * 9


def test_a_hundred_in_flight_are_no_reason_to_go_on() -> None:
    found, scripted = outcomes([refusal(i) for i in range(100)], at_once=True)
    assert kinds(found) == "rrrr" + "E" * 96
    assert len(scripted.requests) == 100, "those were sent already"


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="max_same_refusals is 0; it must be at least 1"):
        RefusalLimitClient(ScriptedClient([]), max_same_refusals=0)
