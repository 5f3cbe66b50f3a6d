"""Which endpoint a run asks for what, and that its wrappers, its bill and its answers are one."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.config import RunConfig, parse_config
from sae_auto_interp.errors import BudgetExceededError, CacheError, ConfigError, NotStoredError, UnknownNameError
from sae_auto_interp.pipeline.clients.open_clients import RunClients, open_clients
from sae_auto_interp.pipeline.resolved import Stage, resolve
from sae_auto_interp.protocols import Client
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types.spending import Account, spending_on
from tests.support.llm_server import QUESTION, LlmServer, answer, error

BASE: dict[str, Any] = {"model": "m", "autoencoders": ["a"], "explainers": ["simple"]}
NO_ENDPOINT = {"base_url": "http://127.0.0.1:1/v1", "model": "judge"}


def price(prompt: float, completion: float) -> dict[str, float]:
    return {"usd_per_million_prompt_tokens": prompt, "usd_per_million_completion_tokens": completion}


def config_of(**sections: object) -> RunConfig:
    return parse_config(BASE | sections)


def endpoint(server: LlmServer, model: str, **more: object) -> dict[str, object]:
    return {"base_url": server.base_url, "model": model, **more}


def use(
    config: RunConfig, folder: Path, until: Stage = "score", n: int = 1, memory: Path | None = None
) -> tuple[RunClients, list[str]]:
    """Ask each client `n` times the same, in the name of its stage; the clients, and what was told."""
    told: list[str] = []

    async def ask(client: Client | None, stage: str) -> None:
        if client is not None:
            with spending_on(stage, "h.1:3"):
                await asyncio.gather(*(client.generate(QUESTION) for _ in range(n)))

    async def session() -> RunClients:
        with ResultStore.open(folder / "results.sqlite") as store:
            async with open_clients(resolve(config).endpoints, store, told.append, until, memory) as clients:
                await ask(clients.explainer, "explain")
                await ask(clients.scorer, "score")
                return clients

    return asyncio.run(session()), told


def listing(model: str, text: str) -> LlmServer:
    return LlmServer(lambda received: error(404) if received.method == "GET" else answer(text))


def posts(server: LlmServer) -> int:
    """How often our question was asked; the endpoint is asked others, for what it can do."""
    return sum(QUESTION.messages[-1].content.encode() in r.raw_body for r in server.requests)


def test_explaining_and_scoring_may_have_endpoints_of_their_own(tmp_path: Path) -> None:
    with listing("big", "an explanation") as big, listing("small", "a verdict") as small:
        config = config_of(
            explainer_client=endpoint(big, "big"), client=endpoint(small, "small", price=price(1.0, 1.0))
        )
        clients, _ = use(config, tmp_path, n=3)
        assert (clients.facts["explainer_model"], clients.facts["scorer_model"]) == ("big", "small")
        assert (posts(big), posts(small)) == (1, 1), "equal questions are one"
        with ResultStore.open(tmp_path / "results.sqlite", read_only=True) as store:
            spending = {account: spent for account, spent in store.spending().items() if account.stage != "probe"}
    assert {account: (spent.n_paid, spent.n_cached) for account, spent in spending.items()} == {
        Account("explain", "h.1:3", "big"): (1, 2),
        Account("score", "h.1:3", "small"): (1, 2),
    }
    assert spending[Account("explain", "h.1:3", "big")].usd == 0
    assert spending[Account("score", "h.1:3", "small")].usd == pytest.approx(18e-6)


def test_what_an_endpoint_is_asked_about_itself_is_charged(tmp_path: Path) -> None:
    memory = tmp_path / "clients"
    with listing("m", "yes") as server:
        config = config_of(client=endpoint(server, "m", price=price(1.0, 1.0)), responses={"mode": "off"})
        for _ in range(2):
            use(config, tmp_path, memory=memory)
        n_probes = sum("completions" in r.path and b"model" in r.raw_body for r in server.requests) - posts(server)
    with ResultStore.open(tmp_path / "results.sqlite", read_only=True) as store:
        spent = store.spending()[Account("probe", "", "m")]
    assert spent.n_paid == n_probes >= 8, "once: the second time it is remembered"
    assert (spent.prompt_tokens, spent.completion_tokens) == (11 * n_probes, 7 * n_probes)
    assert spent.usd == pytest.approx(18e-6 * n_probes)


def test_what_cannot_be_stored_is_stored_with_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A database that is busy, or a disk that is full, for a while."""
    failures = iter([CacheError("database or disk is full")])
    store_spending = ResultStore.add_spending

    def add_spending(self: ResultStore, changes: Any) -> None:
        problem = next(failures, None)
        if problem is not None:
            raise problem
        store_spending(self, changes)

    monkeypatch.setattr(ResultStore, "add_spending", add_spending)
    monkeypatch.setattr("sae_auto_interp.pipeline.clients.open_clients.STORE_EVERY_SECONDS", 0.0)
    with listing("m", "yes") as server:
        use(config_of(client=endpoint(server, "m"), responses={"mode": "off"}), tmp_path, n=3)
        n_sent = sum(r.method == "POST" for r in server.requests)
    with ResultStore.open(tmp_path / "results.sqlite", read_only=True) as store:
        n_paid = sum(spent.n_paid for spent in store.spending().values())
    assert n_sent - 3 <= n_paid <= n_sent
    assert next(failures, None) is None
    assert "what was spent cannot be stored now (database or disk is full)" in caplog.text


def test_what_cannot_be_stored_at_the_end_is_no_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: ResultStore, changes: Any) -> None:
        raise CacheError("database or disk is full")

    monkeypatch.setattr(ResultStore, "add_spending", full)
    with listing("m", "yes") as server, pytest.raises(CacheError, match="disk is full"):
        use(config_of(client=endpoint(server, "m"), responses={"mode": "off"}), tmp_path)


def test_a_budget_without_room_for_the_first_question_asks_nothing(tmp_path: Path) -> None:
    with listing("m", "yes") as server:
        config = config_of(client=endpoint(server, "m"), budget={"max_tokens": 100})
        with pytest.raises(BudgetExceededError, match=r"raise budget\.max_tokens"):
            use(config, tmp_path)
        assert not [r for r in server.requests if r.method == "POST" and b"messages" in r.raw_body]


def test_a_budget_that_ends_with_the_probes_is_kept(tmp_path: Path) -> None:
    with listing("m", "yes") as server:
        with pytest.raises(BudgetExceededError):
            use(config_of(client=endpoint(server, "m"), budget={"max_tokens": 600}), tmp_path)
        n_asked = sum(r.method == "POST" for r in server.requests)
    with ResultStore.open(tmp_path / "results.sqlite", read_only=True) as store:
        spent = store.spending()[Account("probe", "", "m")]
    assert 0 < spent.n_paid <= n_asked
    assert spent.tokens <= 600


def test_one_endpoint_is_one_client_with_one_limit(tmp_path: Path) -> None:
    with listing("m", "yes") as server:
        clients, _ = use(config_of(client=endpoint(server, "m")), tmp_path)
        assert clients.explainer is clients.scorer
        assert posts(server) == 1


def test_what_is_not_asked_is_not_opened(tmp_path: Path) -> None:
    lexical = {"explainers": ["lexical"], "client": NO_ENDPOINT}
    assert use(parse_config(BASE | lexical), tmp_path)[0] == RunClients(None, None)
    assert use(config_of(client=NO_ENDPOINT), tmp_path, until="cache")[0] == RunClients(None, None)
    with listing("m", "yes") as server:
        split = config_of(explainer_client=endpoint(server, "m"), scorer_client=NO_ENDPOINT)
        assert use(split, tmp_path, until="explain")[0].scorer is None


def test_with_the_cache_off_everything_is_asked(tmp_path: Path) -> None:
    with listing("m", "yes") as server:
        config = config_of(client=endpoint(server, "m"), responses={"mode": "off"})
        use(config, tmp_path, n=2)
        assert posts(server) == 4
    assert not list(tmp_path.glob("**/responses.sqlite"))


def test_a_replay_opens_no_connection(tmp_path: Path) -> None:
    path = str(tmp_path / "answers.sqlite")
    with listing("judge", "yes") as server:
        use(config_of(client=endpoint(server, "judge"), responses={"path": path}), tmp_path)
    replay = {"mode": "replay", "path": path}
    assert use(config_of(client=NO_ENDPOINT, responses=replay), tmp_path)[0].facts["scorer_model"] == "judge"
    with pytest.raises(NotStoredError):
        use(config_of(client=NO_ENDPOINT | {"namespace": "other"}, responses=replay), tmp_path)
    with pytest.raises(ConfigError, match=r"client\.model: a replay asks no server"):
        use(config_of(client={"base_url": "http://127.0.0.1:1/v1"}, responses=replay), tmp_path)


@pytest.mark.parametrize(
    ("sections", "error", "message"),
    [
        ({"client": NO_ENDPOINT, "budget": {"max_usd": 1}}, ConfigError, "budget.max_usd needs the price of http"),
        ({"client": NO_ENDPOINT, "budget": {"max_usdd": 1}}, UnknownNameError, "did you mean 'budget.max_usd'"),
        (
            {"client": NO_ENDPOINT | {"price": price(1, 1) | {"usd": 1}}},
            UnknownNameError,
            "known: client.price.usd",
        ),
        ({"responses": {"mode": "on"}}, ConfigError, "responses.mode"),
        ({"client": NO_ENDPOINT | {"requests_per_minute": 0}}, ConfigError, "client.requests_per_minute"),
    ],
)
def test_wrong_settings_are_named(sections: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        config_of(**sections)


def test_a_key_in_the_place_of_its_variable_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match=r"client\.api_key_env") as caught:
        config_of(client=NO_ENDPOINT | {"api_key_env": "sk-planted-1234"})
    assert "planted" not in str(caught.value)
