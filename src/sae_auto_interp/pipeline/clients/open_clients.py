"""The language models of a run: each endpoint's client with its wrappers, composed here and nowhere else.

From the outside in: the cache of answers (what is stored is not asked), the retry (who waits for the next attempt
holds no place), the end of what is refused again and again, the breaker (who waits for a server that is away has used
no attempt), the rate limit, the limit of requests at once, and the bill, which sees each attempt. The budget, the
spending log and the stored answers are one for all endpoints of a run.

From `client` in the run file to the bare client of its kind: a component in clients/ that reaches a model by itself.

In: ClientConfig. Out: a Provider, without wrappers and not yet asked anything. Its fields say which settings it takes:
those that all kinds share (`base_url`, `model`, `api_key_env`, `timeout_seconds`) and its own, from `client.options`.
"""

import asyncio
import dataclasses
import inspect
import logging
import sqlite3
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from operator import add
from pathlib import Path
from typing import Any

from sae_auto_interp.clients import (
    BilledClient,
    BreakerClient,
    Budget,
    CachingClient,
    Charge,
    LimitedClient,
    RateLimitClient,
    RefusalLimitClient,
    ReplayClient,
    ResponseStore,
    RetryingClient,
    SpendingLog,
    Waits,
    charging_probes,
)
from sae_auto_interp.clients.wrappers.answering_model import AnsweringModels
from sae_auto_interp.clients.wrappers.patience import Patience, patient_probes
from sae_auto_interp.config import ClientConfig, ResponsesConfig, resolve_path
from sae_auto_interp.config.settings import checked_settings
from sae_auto_interp.errors import CacheError, ConfigError, UnknownNameError
from sae_auto_interp.pipeline.clients.request_counts import MeteredClient, RequestCounts
from sae_auto_interp.pipeline.resolved import Endpoints, Stage
from sae_auto_interp.protocols import Client, Provider
from sae_auto_interp.registry import component_names, load_component
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types.spending import FREE, NOTHING_SPENT, Price, Spent

SHARED = ("base_url", "model", "api_key_env", "timeout_seconds")


def build_provider(config: ClientConfig) -> Provider:
    """The client of the kind. Raises UnknownNameError for what is no kind or setting, ConfigError for a missing one."""
    component = _provider_class(config.kind)
    fields = {field.name for field in dataclasses.fields(component) if field.init}
    settings = _shared_settings(config, fields) | _own_settings(config, component)
    for name, parameter in inspect.signature(component).parameters.items():
        if name not in settings and parameter.default is parameter.empty:
            raise ConfigError(f"client.kind {config.kind} needs a setting: {_place(name)}")
    return component(**settings)


def provider_names() -> list[str]:
    """Every kind there is; wrappers and the scripted client are clients, but reach no model."""
    return [name for name in component_names("clients") if _is_provider(load_component("clients", name))]


def _provider_class(kind: str) -> type[Any]:
    if ":" not in kind and kind not in component_names("clients"):
        raise UnknownNameError("client.kind", kind, provider_names())
    component = load_component("clients", kind)
    if not _is_provider(component):
        raise UnknownNameError("client.kind", kind, provider_names())
    return component


def _is_provider(component: type[Any]) -> bool:
    return hasattr(component, "prepare")


def _shared_settings(config: ClientConfig, fields: set[str]) -> dict[str, Any]:
    given = {name: value for name in SHARED if (value := getattr(config, name)) is not None}
    for name in ("base_url", "api_key_env"):
        if name in given and name not in fields:
            raise ConfigError(f"client.{name} says nothing to client.kind {config.kind}; leave it out")
    shared = {name: value for name, value in given.items() if name in fields}
    if "model" in shared and "base_url" not in shared:
        shared["model"] = resolve_path(shared["model"])
    return shared


def _own_settings(config: ClientConfig, component: type[Any]) -> dict[str, Any]:
    return checked_settings(component, config.options, f"client.options of kind {config.kind}", exclude=set(SHARED))


def _place(name: str) -> str:
    return f"client.{name}" if name in SHARED else f"client.options.{name}"


_log = logging.getLogger(__name__)


STORE_EVERY_SECONDS = 0.1
"""What was spent is stored so often; a kill -9 loses no more of the count, and what was in flight."""


OTHER_MODELS = "models_that_answered"
"""Under which the results name models that answered and were not asked."""


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
    end_waits: Callable[[], None] = field(default=lambda: None, compare=False)
    """Ends all waits for servers; from within the event loop."""

    @property
    def facts(self) -> dict[str, str]:
        """About the run, for its report."""
        chosen = {"explainer_model": self.explainer, "scorer_model": self.scorer}
        known = "; ".join(f"{model}: {said}" for model, said in self.abilities.items())
        models = {name: client.model for name, client in chosen.items() if client is not None}
        said = "" if self.scorer is None else self.abilities.get(self.scorer.model, "")
        probabilities = {"verdict_probabilities": _probabilities(said)} if said else {}
        return models | probabilities | ({"client_capabilities": known} if known else {})

    def metered(self, request_counts: RequestCounts) -> "RunClients":
        """The same, counted in `request_counts`; what is one client stays one."""
        known = {
            id(c): MeteredClient(c, request_counts=request_counts)
            for c in (self.explainer, self.scorer, self.reader)
            if c
        }
        explainer, scorer, reader = (known.get(id(c)) for c in (self.explainer, self.scorer, self.reader))
        return replace(self, explainer=explainer, scorer=scorer, reader=reader)

    def n_at_once(self, endpoints: Endpoints) -> int:
        """Requests in flight at most, over all endpoints; 0 where nobody is asked."""
        asked = {
            id(client): endpoint.settings.max_concurrency
            for client, endpoint in (
                (self.explainer, endpoints.explaining),
                (self.scorer, endpoints.judging),
                (self.reader, endpoints.reading),
            )
            if client is not None and endpoint.settings is not None
        }
        return sum(asked.values())


def _probabilities(said: str) -> str:
    """Where those of a judge's verdicts come from, by what its endpoint can do ("...; has: seed, n; absent: ...")."""
    there = said.partition("has: ")[2].partition(";")[0].split(", ")
    has = any(ability.split(" ")[0] == "top_logprobs" for ability in there)
    return "from log-probabilities" if has else "none: the endpoint gives no log-probabilities"


@asynccontextmanager
async def open_clients(
    endpoints: Endpoints, store: ResultStore, tell: Tell, until: Stage, memory: Path | None = None
) -> AsyncGenerator[RunClients, None]:
    """Open what the stages up to `until` ask; raises our errors for an endpoint that cannot be reached or used.

    `tell` is given one line when the run has to wait for a server, and one about what each endpoint can do, which is
    kept in the folder `memory`. On leaving, answers that are being paid for are waited for and stored.
    """
    shared = _Shared(endpoints, store, tell, memory)
    try:
        explainer = await shared.opened(endpoints.explaining.needed(until))
        scorer = await shared.opened(endpoints.judging.needed(until))
        reader = await shared.opened(endpoints.reading.needed(until))
        yield RunClients(
            explainer, scorer, reader, shared.abilities, lambda: shared.spending_log.total, shared.waits.end
        )
    finally:
        await shared.close()


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
    """One endpoint outside of a run, with its limits and retry alone, and what it can do; raises as `open_clients`."""
    with patient_probes(Patience(config.attempts, config.give_up_seconds)):
        endpoint, abilities = await open_endpoint(config, ResponsesConfig(mode="off"), None)
    limited = LimitedClient(endpoint, max_concurrency=config.max_concurrency, adaptive=config.adaptive)
    asked = RefusalLimitClient(_paced(config, limited), max_same_refusals=config.max_same_refusals)
    return RetryingClient(asked, attempts=config.attempts, give_up_seconds=config.give_up_seconds), abilities


def _stack(config: ClientConfig, endpoint: Client, shared: "_Shared") -> Client:
    if shared.endpoints.responses.mode == "replay":
        return shared.cached(endpoint, config.namespace)
    keep = None if shared.responses is None else shared.cached(endpoint, config.namespace).keep
    price, budget, tell = _price(config), shared.budget, shared.tell
    billed = BilledClient(endpoint, shared.spending_log, price=price, budget=budget, keep=keep, tell=tell)
    limited = LimitedClient(billed, max_concurrency=config.max_concurrency, adaptive=config.adaptive)
    patience, sleep = config.give_up_seconds, shared.waits.sleep
    breaker = BreakerClient(_paced(config, limited), give_up_seconds=patience, tell=tell, sleep=sleep)
    asked = RefusalLimitClient(breaker, max_same_refusals=config.max_same_refusals)
    retrying = RetryingClient(asked, attempts=config.attempts, give_up_seconds=patience, tell=tell, sleep=sleep)
    return retrying if shared.responses is None else shared.cached(retrying, config.namespace)


def _price(config: ClientConfig) -> Price:
    return FREE if config.price is None else config.price.price


def _paced(config: ClientConfig, client: Client) -> Client:
    if config.requests_per_minute is None and config.tokens_per_minute is None:
        return client
    return RateLimitClient(
        client, requests_per_minute=config.requests_per_minute, tokens_per_minute=config.tokens_per_minute
    )


@dataclass
class _Shared:
    """What all endpoints of a run have in common."""

    endpoints: Endpoints
    store: ResultStore
    tell: Tell
    memory: Path | None
    abilities: dict[str, str] = field(default_factory=dict[str, str], init=False)
    waits: Waits = field(default_factory=Waits, init=False)
    spending_log: SpendingLog = field(init=False)
    budget: Budget | None = field(init=False)
    _opened: list[tuple[ClientConfig, Client]] = field(default_factory=list["tuple[ClientConfig, Client]"], init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        before = reduce(add, self.store.spending().values(), NOTHING_SPENT)
        self.spending_log = SpendingLog(before, self._store_soon)
        caps = self.endpoints.budget
        is_capped = caps.max_usd is not None or caps.max_tokens is not None
        self.budget = Budget(self.spending_log, max_usd=caps.max_usd, max_tokens=caps.max_tokens) if is_capped else None

    @cached_property
    def responses(self) -> ResponseStore | None:
        """The response cache, opened with the first endpoint; None: it is off."""
        chosen = self.endpoints.responses
        path = None if chosen.path is None else Path(chosen.path)
        return None if chosen.mode == "off" else ResponseStore(path, max_bytes=chosen.max_mib << 20)

    def cached(self, client: Client, namespace: str) -> CachingClient:
        assert self.responses is not None, "the response cache is off"
        return CachingClient(client, self.responses, namespace=namespace, count_cached=self.spending_log.add_cached)

    async def opened(self, config: ClientConfig | None) -> Client | None:
        """The client of an endpoint, the same one for the same settings."""
        if config is None:
            return None
        known = [client for other, client in self._opened if other == config]
        if known:
            return known[0]
        patience = Patience(config.attempts, config.give_up_seconds, self.tell)
        with (
            charging_probes(Charge(self.spending_log, _price(config), self.budget, self.tell)),
            patient_probes(patience),
        ):
            endpoint, abilities = await open_endpoint(config, self.endpoints.responses, self.memory)
        stacked = _stack(config, endpoint, self)
        client = AnsweringModels(stacked, tell=lambda name: self._note_other_model(stacked.model, name))
        self._opened.append((config, client))
        if abilities:
            self.tell(f"{client.model}: {abilities}")
            self.abilities[client.model] = abilities
        return client

    async def close(self) -> None:
        responses = vars(self).get("responses")
        for _, client in self._opened:
            await client.close()
        if self._timer is not None:
            self._timer.cancel()
        try:
            self._store_spending()
        finally:
            if responses is not None:
                responses.close()
                for line in responses.troubles:
                    self.tell(line)

    def _note_other_model(self, asked: str, answered: str) -> None:
        """Say that another model answered than was asked, and note it with the run."""
        self.tell(f"{asked} was asked, and {answered} answered: what is said of {asked} may be of {answered}")
        known = self.store.info().get(OTHER_MODELS, "")
        new = f"{answered} in place of {asked}"
        if new not in known.split("; "):
            self.store.set_info(OTHER_MODELS, f"{known}; {new}" if known else new)

    def _store_soon(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(STORE_EVERY_SECONDS, self._try_to_store)

    def _try_to_store(self) -> None:
        """A disk may be full, or the database busy: what is not stored now is stored with what comes next."""
        try:
            self._store_spending()
        except (CacheError, sqlite3.Error, OSError, OverflowError) as error:
            _log.warning("what was spent cannot be stored now (%s); it is kept, and tried again", error)

    def _store_spending(self) -> None:
        changes = self.spending_log.take_changes()
        if not changes:
            return
        try:
            self.store.add_spending(changes)
        except BaseException:
            self.spending_log.put_back(changes)
            raise
