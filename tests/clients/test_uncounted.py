"""Unknown is not nothing: an answer whose tokens nobody counted costs the most that it can, and no cap is exceeded."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.clients import (
    AnthropicClient,
    BilledClient,
    Budget,
    CachingClient,
    Charge,
    LimitedClient,
    OpenAIBatchClient,
    OpenAIClient,
    RateLimitClient,
    ResponseStore,
    ScriptedClient,
    SpendingLog,
    charging_probes,
)
from sae_auto_interp.clients.http.prompt_logprobs import decode_reading
from sae_auto_interp.clients.wrappers.budget import upper_bound
from sae_auto_interp.errors import BudgetExceededError, MalformedReplyError
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Message, PromptRequest, Request, Response, Sampling, Usage
from sae_auto_interp.types.spending import Price
from tests.support.anthropic_server import KEY, message
from tests.support.batch_server import BatchApi, Line, well_answered
from tests.support.llm_server import QUESTION, LlmServer, Received, Reply, ask, chat, error, json_reply
from tests.support.virtual_time import now, run

PRICE = Price(0.5, 2.0)
BOUND = upper_bound(QUESTION, PRICE)
ABSENT = "absent"
UNUSABLE = [
    ABSENT,
    None,
    {"prompt_tokens": -5, "completion_tokens": -1},
    {"input_tokens": 100, "output_tokens": 20},
    {"prompt_tokens": 2**63, "completion_tokens": 1},
    {"prompt_tokens": 11, "completion_tokens": 1e18},
    {"prompt_tokens": 10_000_000, "completion_tokens": 1},  # of a longest context, and not of this request
    {"prompt_tokens": 0, "completion_tokens": 0},
    {"prompt_tokens": 11},
    {"prompt_tokens": 12.5, "completion_tokens": 3},
    {"prompt_tokens": True, "completion_tokens": 3},
    "11 + 7",
]


def body_with(usage: object, text: str = "yes") -> dict[str, Any]:
    reply = {"model": "m", "choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    return reply if usage is ABSENT else reply | {"usage": usage}


def charged(client: Client, **budget: Any) -> tuple[SpendingLog, list[str]]:
    """One question; the spending log, and what was said."""
    told: list[str] = []
    spending_log = SpendingLog()
    with contextlib.suppress(MalformedReplyError):
        ask(BilledClient(client, spending_log, price=PRICE, budget=Budget(spending_log, **budget), tell=told.append))
    return spending_log, told


@pytest.mark.parametrize("usage", UNUSABLE, ids=repr)
def test_an_unusable_count_costs_what_was_reserved(usage: object) -> None:
    with LlmServer([json_reply(body_with(usage))]) as server:
        spending_log, told = charged(OpenAIClient(base_url=server.base_url, model="m"))
    total = spending_log.total
    assert (total.n_paid, total.n_uncounted) == (1, 1)
    assert (total.prompt_tokens, total.completion_tokens, total.usd) == (
        BOUND.prompt_tokens,
        BOUND.completion_tokens,
        BOUND.usd,
    )
    (line,) = told
    assert line.startswith("m does not say how many tokens an answer took")


@pytest.mark.parametrize("completion", [1, 500, 2_000, 30_000])
def test_a_count_that_a_model_may_reach_by_thinking_is_believed(completion: int) -> None:
    usage = {"prompt_tokens": 30, "completion_tokens": completion}
    with LlmServer([json_reply(body_with(usage))]) as server:
        spending_log, told = charged(OpenAIClient(base_url=server.base_url, model="m"))
    assert (spending_log.total.completion_tokens, spending_log.total.n_uncounted, told) == (completion, 0, [])


def test_an_answer_without_text_and_without_usage_is_charged_too() -> None:
    with LlmServer([json_reply(body_with(None, text=""))]) as server:
        spending_log, _ = charged(OpenAIClient(base_url=server.base_url, model="m"))
    assert (spending_log.total.n_uncounted, spending_log.total.usd) == (1, BOUND.usd)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"input_tokens": 11, "cache_read_input_tokens": 5, "output_tokens": 7}, 23),
        ({"input_tokens": 0, "cache_creation_input_tokens": 9, "output_tokens": 7}, 16),
        ({"input_tokens": 11}, None),
        ({"prompt_tokens": 11, "completion_tokens": 7}, None),
        ({"input_tokens": 11, "cache_read_input_tokens": -4, "output_tokens": 7}, None),
        (None, None),
    ],
    ids=str,
)
@pytest.mark.parametrize("reason", ["end_turn", "refusal"])
def test_anthropics_counts(usage: object, tokens: int | None, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    reply = message({"type": "text", "text": "yes"}, stop_reason=reason) | {"usage": usage}
    with LlmServer([json_reply(reply)]) as server:
        spending_log, _ = charged(AnthropicClient(model="m", base_url=server.root))
    assert spending_log.total.tokens == (BOUND.tokens if tokens is None else tokens)
    assert spending_log.total.n_uncounted == (tokens is None)


def test_batches_and_probes_without_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted")

    def without_usage(line: Line) -> Line:
        answered = json.loads(json.dumps(well_answered(line)))
        del answered["response"]["body"]["usage"]
        return answered

    with LlmServer(BatchApi(without_usage)) as server:
        client = OpenAIBatchClient(model="m", base_url=server.base_url, gather_seconds=0.0, poll_seconds=0.01)
        spending_log, _ = charged(client)
    assert (spending_log.total.n_uncounted, spending_log.total.tokens) == (1, BOUND.tokens)
    spending_log, told = SpendingLog(), list[str]()
    with LlmServer(lambda r: error(404) if r.method == "GET" else json_reply(body_with(ABSENT))) as server:
        client = OpenAIClient(base_url=server.base_url, model="m")

        async def prepared() -> None:
            with charging_probes(Charge(spending_log, PRICE, tell=told.append)):
                await client.prepare()
            await client.close()

        asyncio.run(prepared())
    assert spending_log.total.n_uncounted == spending_log.total.n_paid > 5
    assert spending_log.total.prompt_tokens > 100 * spending_log.total.n_paid, "bounds and not nothing"
    assert len(told) == 1


def test_a_rated_text_without_usage_is_unknown() -> None:
    tokens = {"tokens": ["a", " b"], "token_logprobs": [None, -1.0], "top_logprobs": [None, {" b": -1.0}]}
    reply = {"choices": [{"logprobs": tokens}]}
    for usage, expected in ((None, Usage(0, 0, 1, 1)), ({"prompt_tokens": 2}, Usage(2, 1, 1))):
        found = decode_reading(reply | {"usage": usage}, PromptRequest("a b"), "m", "echo", str)
        assert found.usage == expected


COUNTS: dict[str, Callable[[Received], object]] = {
    "counted": lambda received: {"prompt_tokens": len(received.raw_body) // 4, "completion_tokens": 40},
    "uncounted": lambda received: None,
    "now and then": lambda received: (
        {"prompt_tokens": 2**64, "completion_tokens": 1}
        if len(received.raw_body) % 2
        else {"prompt_tokens": 50, "completion_tokens": 9}
    ),
}


@pytest.mark.parametrize("cap", [{"max_usd": 0.02}, {"max_tokens": 9_000}], ids=str)
@pytest.mark.parametrize("counts", COUNTS)
def test_a_hundred_at_once_stay_below_the_cap(counts: str, cap: dict[str, Any]) -> None:
    requests = [Request((Message("user", "x" * (i % 97)),), Sampling(max_tokens=40)) for i in range(300)]
    largest = upper_bound(Request((Message("user", "x" * 96),), Sampling(max_tokens=40)), PRICE)

    def reply(received: Received) -> Reply:
        return chat({"message": {"content": "yes"}}, COUNTS[counts](received))

    with LlmServer(reply) as server:
        spending_log = SpendingLog()
        client = OpenAIClient(base_url=server.base_url, model="m")
        billed = BilledClient(client, spending_log, price=PRICE, budget=Budget(spending_log, **cap))

        async def together() -> list[object]:
            limited = LimitedClient(billed, max_concurrency=100)
            outcomes = await asyncio.gather(*map(limited.generate, requests), return_exceptions=True)
            await limited.close()
            return list(outcomes)

        outcomes = asyncio.run(together())
        n_sent = len(server.requests)
    assert {type(outcome) for outcome in outcomes} == {Response, BudgetExceededError}
    assert n_sent == spending_log.total.n_paid
    if "max_usd" in cap:
        assert cap["max_usd"] - largest.usd < spending_log.total.usd <= cap["max_usd"]
    else:
        assert cap["max_tokens"] - largest.tokens < spending_log.total.tokens <= cap["max_tokens"]


def test_a_replay_of_an_uncounted_answer_costs_nothing_and_says_so(tmp_path: Path) -> None:
    spending_log = SpendingLog()
    with LlmServer([json_reply(body_with(None))]) as server, ResponseStore(tmp_path / "a.sqlite") as store:
        client = OpenAIClient(base_url=server.base_url, model="m")
        cached = CachingClient(
            BilledClient(client, spending_log, price=PRICE), store, count_cached=spending_log.add_cached
        )
        first, second = ask(cached), ask(cached)
    assert first == second
    assert first[0].usage == Usage(0, 0, n_requests=1, n_uncounted=1)
    assert (spending_log.total.n_paid, spending_log.total.n_cached, spending_log.total.usd) == (1, 1, BOUND.usd)


def test_the_pace_keeps_its_guess_where_nothing_was_counted() -> None:
    def seconds(usage: Usage) -> float:
        scripted = ScriptedClient(lambda _: Response("yes", usage, "stop", "m"))

        async def asked() -> float:
            paced = RateLimitClient(scripted, tokens_per_minute=6_000, clock=now)
            for _ in range(3):
                await paced.generate(QUESTION)
            return now()

        return run(asked())

    assert seconds(Usage(n_requests=1, n_uncounted=1)) > 5 > seconds(Usage(10, 3, 1))
