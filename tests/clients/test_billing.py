"""BilledClient, its spending log and its budget: every attempt is counted once, and no cap is ever exceeded."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from sae_auto_interp.clients import BilledClient, Budget, LimitedClient, RetryingClient, ScriptedClient, SpendingLog
from sae_auto_interp.clients.wrappers.budget import upper_bound
from sae_auto_interp.clients.wrappers.wrapper import Question
from sae_auto_interp.errors import (
    BrokenReplyError,
    BudgetExceededError,
    MalformedReplyError,
    RateLimitedError,
    ServerError,
    TimeoutExceededError,
    UnreachableError,
)
from sae_auto_interp.types import Message, Request, Response, Sampling, Usage
from sae_auto_interp.types.spending import NOTHING_SPENT, Account, Price, Spent, spending_on
from tests.support.llm_server import QUESTION, ask
from tests.support.virtual_time import run

PRICE = Price(2.0, 8.0)
N_REQUESTS = 300


def test_a_price_is_per_million_tokens() -> None:
    assert PRICE.usd(1_000_000, 0) == 2.0
    assert PRICE.usd(500, 250) == pytest.approx(500 * 2e-6 + 250 * 8e-6)


def test_sums_add_field_by_field() -> None:
    assert Spent(1, 2, 3, 4, 5, 6, 0.5) + Spent(10, 20, 30, 40, 50, 60, 0.25) == Spent(11, 22, 33, 44, 55, 66, 0.75)
    assert Spent(prompt_tokens=4, completion_tokens=5, lost_tokens=6).tokens == 15


def test_each_answer_is_charged_to_the_stage_feature_and_model_that_asked() -> None:
    spending_log = SpendingLog()
    client = BilledClient(ScriptedClient(lambda _: "two words", model="judge"), spending_log, price=PRICE)

    async def work(stage: str, feature: str, n: int) -> None:
        with spending_on(stage, feature):
            await asyncio.gather(*(client.generate(QUESTION) for _ in range(n)))

    async def together() -> None:
        await asyncio.gather(work("explain", "h.1:3", 1), work("score", "h.1:3", 4), work("score", "h.1:5", 2))

    asyncio.run(together())
    one = Spent(n_paid=1, prompt_tokens=5, completion_tokens=2, usd=PRICE.usd(5, 2))
    changes = spending_log.take_changes()
    assert {account: spent.n_paid for account, spent in changes.items()} == {
        Account("explain", "h.1:3", "judge"): 1,
        Account("score", "h.1:3", "judge"): 4,
        Account("score", "h.1:5", "judge"): 2,
    }
    assert changes[Account("explain", "h.1:3", "judge")] == one
    assert spending_log.total.usd == pytest.approx(7 * one.usd)
    assert spending_log.take_changes() == {}


def test_what_each_failure_may_have_cost() -> None:
    bound = upper_bound(QUESTION, PRICE)
    lost = Spent(n_lost=1, lost_tokens=bound.tokens, usd=bound.usd)
    paid = Spent(n_paid=1, prompt_tokens=11, completion_tokens=7, usd=PRICE.usd(11, 7))
    cases = [
        (TimeoutExceededError("slow"), lost),
        (UnreachableError("it broke"), lost),
        (BrokenReplyError("half"), lost),
        (UnreachableError("no connection", was_sent=False), Spent()),
        (RateLimitedError("later"), Spent()),
        (ServerError("down", status=500), Spent()),
        (MalformedReplyError("empty", prompt_tokens=11, completion_tokens=7), paid),
    ]
    for error, expected in cases:
        spending_log = SpendingLog()
        with pytest.raises(type(error)):
            ask(BilledClient(ScriptedClient([error]), spending_log, price=PRICE))
        assert spending_log.total == expected, error


def test_every_attempt_is_counted_by_itself() -> None:
    spending_log = SpendingLog()
    scripted = ScriptedClient([TimeoutExceededError("slow"), RateLimitedError("later"), "yes"])
    ask(RetryingClient(BilledClient(scripted, spending_log), base_seconds=0.0))
    assert (spending_log.total.n_lost, spending_log.total.n_paid) == (1, 1)


@pytest.mark.parametrize("text", ["plain words", "日本語のテキスト", "\U0001f642" * 9, "\ud83d", "", "a\x00b"])
def test_the_bound_is_above_what_tokenizers_count(text: str) -> None:
    request = Request((Message("system", text), Message("user", text)), Sampling(max_tokens=50), schema=text)
    n_bytes = 3 * len(text.encode("utf-8", "surrogatepass"))
    assert upper_bound(request, PRICE).tokens >= n_bytes + 50
    assert upper_bound(request, PRICE).usd == pytest.approx(PRICE.usd(upper_bound(request, PRICE).tokens - 50, 50))


class Priced:
    """Counts tokens at random, up to the bound of each request, and takes a moment for it."""

    model = "priced"

    def __init__(self, seed: int, share: float) -> None:
        self.rng = np.random.default_rng(seed)
        self.share = share
        self.n_asked = 0
        self.inside = 0

    async def generate(self, request: Request) -> Response:
        self.n_asked += 1
        self.inside += 1
        await asyncio.sleep(float(self.rng.uniform(0, 0.003)))
        self.inside -= 1
        most = upper_bound(request, PRICE).tokens - request.sampling.max_tokens
        prompt = int(self.rng.integers(0, int(most * self.share) + 1))
        completion = int(self.rng.integers(0, request.sampling.max_tokens + 1))
        return Response("yes", Usage(prompt, completion, 1), "stop", self.model)

    async def close(self) -> None:
        assert self.inside == 0


def run_until_the_budget_ends(
    budget_of: dict[str, float], slots: int, seed: int, share: float = 1.0, before: Spent = NOTHING_SPENT
) -> tuple[SpendingLog, int, Sequence[object]]:
    spending_log, priced = SpendingLog(before), Priced(seed, share)
    budget = Budget(spending_log, **budget_of)  # pyright: ignore[reportArgumentType]
    client = LimitedClient(BilledClient(priced, spending_log, price=PRICE, budget=budget), max_concurrency=slots)
    requests = [Request((Message("user", "x" * (i % 97)),), Sampling(max_tokens=40)) for i in range(N_REQUESTS)]

    async def together() -> Sequence[object]:
        return await asyncio.gather(*(client.generate(r) for r in requests), return_exceptions=True)

    outcomes = run(together())
    return spending_log, priced.n_asked, outcomes


@pytest.mark.parametrize("slots", [1, 7, 50])
@pytest.mark.parametrize("cap", [{"max_usd": 0.02}, {"max_tokens": 8000}])
def test_spending_ends_below_the_cap_and_within_one_request_of_it(cap: dict[str, float], slots: int) -> None:
    largest = upper_bound(Request((Message("user", "x" * 96),), Sampling(max_tokens=40)), PRICE)
    for seed, share in ((0, 1.0), (1, 0.2)):
        spending_log, n_asked, outcomes = run_until_the_budget_ends(cap, slots, seed, share)
        stopped = [o for o in outcomes if isinstance(o, BudgetExceededError)]
        assert len(stopped) + n_asked == N_REQUESTS
        assert n_asked == spending_log.total.n_paid, "all that was sent was waited for"
        spent, most, one = (
            (spending_log.total.usd, cap["max_usd"], largest.usd)
            if "max_usd" in cap
            else (spending_log.total.tokens, cap["max_tokens"], largest.tokens)
        )
        assert most - one < spent <= most


def test_what_was_spent_before_counts_and_a_higher_cap_goes_on() -> None:
    first, _, _ = run_until_the_budget_ends({"max_tokens": 4000}, 5, 0)
    again, n_asked, _ = run_until_the_budget_ends({"max_tokens": 4000}, 5, 0, before=first.total)
    assert n_asked <= 2, "what the last one left over"
    assert again.total.tokens <= 4000
    more, n_asked, _ = run_until_the_budget_ends({"max_tokens": 8000}, 5, 0, before=first.total)
    assert n_asked > 5
    assert 7000 < more.total.tokens <= 8000


def test_the_message_says_what_is_spent_and_how_to_go_on() -> None:
    spending_log, _, outcomes = run_until_the_budget_ends({"max_usd": 0.01}, 3, 0)
    said = str(next(o for o in outcomes if isinstance(o, BudgetExceededError)))
    assert f"${spending_log.total.usd:.4f} of $0.01 is spent" in said
    assert "raise budget.max_usd and run the same command again to go on" in said


def test_an_answer_is_waited_for_and_kept_when_its_asker_has_left() -> None:
    kept: list[tuple[Question, str]] = []

    async def keep(question: Question, answer: object) -> None:
        assert isinstance(answer, Response)
        kept.append((question, answer.text))

    async def leave(client: BilledClient) -> None:
        task = asyncio.create_task(client.generate(QUESTION))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert kept == []
        await client.close()

    spending_log = SpendingLog()
    scripted = ScriptedClient(lambda _: "yes", latency_seconds=0.05)
    asyncio.run(leave(BilledClient(scripted, spending_log, keep=keep)))
    assert kept == [(QUESTION, "yes")]
    assert spending_log.total.n_paid == 1


def test_one_who_left_and_got_an_error_disturbs_nobody() -> None:
    async def leave(client: BilledClient) -> None:
        task = asyncio.create_task(client.generate(QUESTION))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()

    asyncio.run(leave(BilledClient(ScriptedClient([ServerError("down")], latency_seconds=0.03))))
