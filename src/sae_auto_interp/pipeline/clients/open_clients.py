"""The language models of a run: each endpoint's client with its wrappers, composed here and nowhere else.

From the outside in: the cache of answers (what is stored is not asked), the retry (who waits for the next attempt
holds no place), the breaker (who waits for a server that is away has used no attempt), the pace, the limit, and the
bill, which sees each attempt. The budget, the ledger and the stored answers are one for all endpoints of a run.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from pathlib import Path

from sae_auto_interp.clients import (
    BilledClient,
    BreakerClient,
    Budget,
    CachingClient,
    Charge,
    Ledger,
    LimitedClient,
    PacedClient,
    ReplayClient,
    ResponseStore,
    RetryingClient,
    charging_probes,
)
from sae_auto_interp.config import ClientConfig, ResponsesConfig, RunConfig
from sae_auto_interp.errors import ConfigError
from sae_auto_interp.pipeline.clients.request_counts import MeteredClient, Traffic
from sae_auto_interp.pipeline.components import collaborators_of
from sae_auto_interp.pipeline.providers import build_provider
from sae_auto_interp.protocols import Client, Judge, PromptReader
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types.spending import FREE, NOTHING_SPENT, Price, Spent

STORE_EVERY_SECONDS = 0.1
"""What was spent is stored so often; a kill -9 loses no more of the count, and what was in flight."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class RunClients:
    """Who is asked by explainers, by judges, and by scorers to rate given texts; None where nobody need be."""

    explainer: Client | None = None
    scorer: Client | None = None
    reader: Client | None = None
    abilities: Mapping[str, str] = field(default_factory=dict[str, str])
    """{model: what its endpoint can do}."""
    spent: Callable[[], Spent] = field(default=lambda: NOTHING_SPENT, compare=False)
    """What the run has paid for so far, earlier processes included."""

    @property
    def facts(self) -> dict[str, str]:
        """About the run, for its report."""
        chosen = {"explainer_model": self.explainer, "scorer_model": self.scorer}
        known = "; ".join(f"{model}: {said}" for model, said in self.abilities.items())
        models = {name: client.model for name, client in chosen.items() if client is not None}
        said = "" if self.scorer is None else self.abilities.get(self.scorer.model, "")
        probabilities = {"verdict_probabilities": _probabilities(said)} if said else {}
        return models | probabilities | ({"client_capabilities": known} if known else {})

    def metered(self, traffic: Traffic) -> "RunClients":
        """The same, counted in `traffic`; what is one client stays one."""
        known = {id(c): MeteredClient(c, traffic=traffic) for c in (self.explainer, self.scorer, self.reader) if c}
        explainer, scorer, reader = (known.get(id(c)) for c in (self.explainer, self.scorer, self.reader))
        return replace(self, explainer=explainer, scorer=scorer, reader=reader)

    def n_at_once(self, config: RunConfig) -> int:
        """Requests in flight at most, over all endpoints; 0 where nobody is asked."""
        asked = {
            id(client): endpoint.max_concurrency
            for client, endpoint in (
                (self.explainer, config.for_explaining),
                (self.scorer, config.for_scoring),
                (self.reader, config.for_reading),
            )
            if client is not None and endpoint is not None
        }
        return sum(asked.values())


def _probabilities(said: str) -> str:
    """Where those of a judge's verdicts come from, by what its endpoint can do ("...; has: seed, n; absent: ...")."""
    there = said.partition("has: ")[2].partition(";")[0].split(", ")
    has = any(ability.split(" ")[0] == "top_logprobs" for ability in there)
    return "from log-probabilities" if has else "none: the endpoint gives no log-probabilities"


@asynccontextmanager
async def open_clients(
    config: RunConfig, store: ResultStore, tell: Tell, until: str, memory: Path | None = None
) -> AsyncGenerator[RunClients, None]:
    """Open what the stages up to `until` ask; raises our errors for an endpoint that cannot be reached or used.

    `tell` is given one line when the run has to wait for a server, and one about what each endpoint can do, which is
    kept in the folder `memory`. On leaving, answers that are being paid for are waited for and stored.
    """
    shared = _Shared(config, store, tell, memory)
    try:
        explainer = await shared.opened(config.for_explaining if _asks_to_explain(config, until) else None)
        scorer = await shared.opened(config.for_scoring if _asks_to_judge(config, until) else None)
        reader = await shared.opened(config.for_reading if _asks_to_read(config, until) else None)
        yield RunClients(explainer, scorer, reader, shared.abilities, lambda: shared.ledger.total)
    finally:
        await shared.close()


def _asks_to_explain(config: RunConfig, until: str) -> bool:
    return until != "cache" and any(Client in collaborators_of("explainers", e) for e in config.explainers)


def _asks_to_judge(config: RunConfig, until: str) -> bool:
    """Explainers that choose among explanations have them judged too; some scorers ask by themselves."""
    judged = [e for e in config.explainers if until == "score" or Judge in collaborators_of("explainers", e)]
    asked = [("judges", e.judge_config) for e in judged]
    asked += [("scorers", scorer) for scorer in config.scorers if until == "score"]
    return until != "cache" and any(Client in collaborators_of(folder, component) for folder, component in asked)


def _asks_to_read(config: RunConfig, until: str) -> bool:
    return until == "score" and any(PromptReader in collaborators_of("scorers", s) for s in config.scorers)


async def open_endpoint(config: ClientConfig, responses: ResponsesConfig, memory: Path | None) -> tuple[Client, str]:
    """What sends, and what it can do in one line; or what stands for it in a replay."""
    if responses.mode == "replay":
        if config.model is None:
            raise ConfigError("client.model: a replay asks no server for its models; name the one that was asked")
        return ReplayClient(model=config.model), ""
    client = build_provider(config)
    try:
        return client, await client.prepare(memory)
    except BaseException:
        await client.close()
        raise


async def open_client(config: ClientConfig) -> tuple[Client, str]:
    """One endpoint outside of a run, with its limit and retry alone, and what it can do; raises as `open_clients`."""
    endpoint, abilities = await open_endpoint(config, ResponsesConfig(mode="off"), None)
    limited = LimitedClient(endpoint, max_concurrency=config.max_concurrency, adaptive=config.adaptive)
    return RetryingClient(_paced(config, limited), attempts=config.attempts), abilities


def _stack(config: ClientConfig, endpoint: Client, shared: "_Shared") -> Client:
    if shared.config.responses.mode == "replay":
        return shared.cached(endpoint, config.namespace)
    keep = None if shared.responses is None else shared.cached(endpoint, config.namespace).keep
    billed = BilledClient(endpoint, shared.ledger, price=_price(config), budget=shared.budget, keep=keep)
    limited = LimitedClient(billed, max_concurrency=config.max_concurrency, adaptive=config.adaptive)
    breaker = BreakerClient(_paced(config, limited), give_up_seconds=config.give_up_seconds, tell=shared.tell)
    retrying = RetryingClient(breaker, attempts=config.attempts)
    return retrying if shared.responses is None else shared.cached(retrying, config.namespace)


def _price(config: ClientConfig) -> Price:
    return FREE if config.price is None else config.price.price


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
    memory: Path | None
    abilities: dict[str, str] = field(default_factory=dict[str, str], init=False)
    ledger: Ledger = field(init=False)
    budget: Budget | None = field(init=False)
    responses: ResponseStore | None = field(init=False)
    _opened: list[tuple[ClientConfig, Client]] = field(default_factory=list["tuple[ClientConfig, Client]"], init=False)
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

    async def opened(self, config: ClientConfig | None) -> Client | None:
        """The client of an endpoint, the same one for the same settings."""
        if config is None:
            return None
        known = [client for other, client in self._opened if other == config]
        if known:
            return known[0]
        with charging_probes(Charge(self.ledger, _price(config), self.budget)):
            endpoint, abilities = await open_endpoint(config, self.config.responses, self.memory)
        client = _stack(config, endpoint, self)
        self._opened.append((config, client))
        if abilities:
            self.tell(f"{client.model}: {abilities}")
            self.abilities[client.model] = abilities
        return client

    async def close(self) -> None:
        for _, client in self._opened:
            await client.close()
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
