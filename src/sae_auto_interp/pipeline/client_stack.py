"""The language models of a run: each endpoint's client with its wrappers, composed here and nowhere else.

From the outside in: the cache of answers (what is stored is not asked), the retry (who waits for the next attempt
holds no place), the breaker (who waits for a server that is away has used no attempt), the pace, the limit, and the
bill, which sees each attempt. The budget, the ledger and the stored answers are one for all endpoints of a run.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from pathlib import Path

from sae_auto_interp.clients import (
    BilledClient,
    BreakerClient,
    Budget,
    CachingClient,
    Ledger,
    LimitedClient,
    OpenAIClient,
    PacedClient,
    ReplayClient,
    ResponseStore,
    RetryingClient,
)
from sae_auto_interp.config import ClientConfig, ComponentConfig, ResponsesConfig, RunConfig
from sae_auto_interp.errors import ConfigError
from sae_auto_interp.pipeline.components import collaborators_of
from sae_auto_interp.protocols import Client, Judge
from sae_auto_interp.results import ResultStore
from sae_auto_interp.spending import FREE, NOTHING_SPENT

STORE_EVERY_SECONDS = 0.1
"""What was spent is stored so often; a kill -9 loses no more of the count, and what was in flight."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class RunClients:
    """Who is asked by explainers and by judges; None where nobody is, or need not be for what is to be done."""

    explainer: Client | None
    scorer: Client | None

    @property
    def models(self) -> dict[str, str]:
        """Facts about the run for its report."""
        chosen = {"explainer_model": self.explainer, "scorer_model": self.scorer}
        return {name: client.model for name, client in chosen.items() if client is not None}


@asynccontextmanager
async def open_clients(
    config: RunConfig, store: ResultStore, tell: Tell, until: str
) -> AsyncGenerator[RunClients, None]:
    """Open what the stages up to `until` ask; raises our errors for an endpoint that cannot be reached or used.

    `tell` is given one line when the run has to wait for a server. On leaving, answers that are being paid for are
    waited for and stored.
    """
    shared = _Shared(config, store, tell)
    opened: list[Client] = []
    try:
        explaining = config.for_explaining if _asks_to_explain(config, until) else None
        scoring = config.for_scoring if _asks_to_judge(config, until) else None
        explainer = await _opened(explaining, shared, opened)
        scorer = explainer if scoring == explaining else await _opened(scoring, shared, opened)
        yield RunClients(explainer, scorer)
    finally:
        for client in opened:
            await client.close()
        shared.close()


def _asks_to_explain(config: RunConfig, until: str) -> bool:
    return until != "cache" and any(Client in collaborators_of("explainers", e) for e in config.explainers)


def _asks_to_judge(config: RunConfig, until: str) -> bool:
    """Explainers that choose among explanations have them judged too."""
    judged = [e for e in config.explainers if until == "score" or Judge in collaborators_of("explainers", e)]
    names = {e.judge_name for e in judged}
    return until != "cache" and any(Client in collaborators_of("judges", ComponentConfig(name=n)) for n in names)


async def _opened(config: ClientConfig | None, shared: "_Shared", opened: list[Client]) -> Client | None:
    if config is None:
        return None
    client = _stack(config, await _endpoint(config, shared.config.responses), shared)
    opened.append(client)
    return client


async def _endpoint(config: ClientConfig, responses: ResponsesConfig) -> Client:
    """What sends, or what stands for it in a replay."""
    if responses.mode == "replay":
        if config.model is None:
            raise ConfigError("client.model: a replay asks no server for its models; name the one that was asked")
        return ReplayClient(model=config.model)
    client = OpenAIClient(
        base_url=config.base_url,
        model=config.model,
        api_key_env=config.api_key_env,
        timeout_seconds=config.timeout_seconds,
    )
    try:
        await client.check()
    except BaseException:
        await client.close()
        raise
    return client


def _stack(config: ClientConfig, endpoint: Client, shared: "_Shared") -> Client:
    if shared.config.responses.mode == "replay":
        return shared.cached(endpoint, config.namespace)
    price = FREE if config.price is None else config.price.price
    keep = None if shared.responses is None else shared.cached(endpoint, config.namespace).keep
    billed = BilledClient(endpoint, shared.ledger, price=price, budget=shared.budget, keep=keep)
    limited = LimitedClient(billed, max_concurrency=config.max_concurrency, adaptive=config.adaptive)
    breaker = BreakerClient(_paced(config, limited), give_up_seconds=config.give_up_seconds, tell=shared.tell)
    retrying = RetryingClient(breaker, attempts=config.attempts)
    return retrying if shared.responses is None else shared.cached(retrying, config.namespace)


def _paced(config: ClientConfig, client: Client) -> Client:
    if config.requests_per_minute is None and config.tokens_per_minute is None:
        return client
    return PacedClient(
        client, requests_per_minute=config.requests_per_minute, tokens_per_minute=config.tokens_per_minute
    )


@dataclass
class _Shared:
    """What all endpoints of a run have in common."""

    config: RunConfig
    store: ResultStore
    tell: Tell
    ledger: Ledger = field(init=False)
    budget: Budget | None = field(init=False)
    responses: ResponseStore | None = field(init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        before = reduce(add, self.store.spending().values(), NOTHING_SPENT)
        self.ledger = Ledger(before, self._store_soon)
        caps = self.config.budget
        is_capped = caps.max_usd is not None or caps.max_tokens is not None
        self.budget = Budget(self.ledger, max_usd=caps.max_usd, max_tokens=caps.max_tokens) if is_capped else None
        chosen = self.config.responses
        path = None if chosen.path is None else Path(chosen.path)
        is_off = chosen.mode == "off"
        self.responses = None if is_off else ResponseStore(path, max_bytes=chosen.max_mib << 20)

    def cached(self, client: Client, namespace: str) -> CachingClient:
        assert self.responses is not None, "the cache of answers is off"
        return CachingClient(client, self.responses, namespace=namespace, count_cached=self.ledger.add_cached)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._store_spending()
        if self.responses is not None:
            self.responses.close()

    def _store_soon(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(STORE_EVERY_SECONDS, self._store_spending)

    def _store_spending(self) -> None:
        changes = self.ledger.take_changes()
        if changes:
            self.store.add_spending(changes)
