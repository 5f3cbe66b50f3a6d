"""An endpoint that the command line names takes the place of the run file's, and changes nothing else of it."""

from typing import Any

import pytest

from sae_auto_interp.config import ClientConfig, RunConfig, parse_config
from sae_auto_interp.errors import ConfigError, InputError
from sae_auto_interp.pipeline.clients.named_endpoint import named_client, with_named_client

PRICE = {"usd_per_million_prompt_tokens": 1.0, "usd_per_million_completion_tokens": 2.0}
KNOWN = {"base_url": "http://127.0.0.1:1/v1", "model": "small", "max_concurrency": 7, "attempts": 3, "price": PRICE}
OTHER = "http://127.0.0.1:2/v1"


def config(**sections: Any) -> RunConfig:
    return parse_config({"model": "m", "autoencoders": ["a"], "explainers": ["simple"]} | sections)


def client_of(changed: RunConfig) -> ClientConfig:
    assert changed.client is not None
    return changed.client


def test_nothing_named_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given = config(client=KNOWN)
    monkeypatch.setenv("OPENAI_BASE_URL", OTHER)
    assert with_named_client(given, None, None, None) == given, "the variable names nothing"
    lexical = config(explainers=["lexical"])
    assert with_named_client(lexical, None, None, None) == lexical


def test_what_is_named_goes_first_and_the_rest_stays() -> None:
    given = config(client=KNOWN)
    model = client_of(with_named_client(given, None, "large", None))
    assert (model.base_url, model.model, model.max_concurrency, model.attempts) == (KNOWN["base_url"], "large", 7, 3)
    assert model.price is None, "the price is that of the other model"
    place = client_of(with_named_client(given, OTHER, None, 9))
    assert (place.base_url, place.model, place.max_concurrency) == (OTHER, "small", 9)
    limit = client_of(with_named_client(given, None, None, 9))
    assert (limit.max_concurrency, limit.price) == (9, client_of(given).price)


def test_one_named_endpoint_explains_and_judges() -> None:
    given = config(explainer_client=KNOWN, scorer_client=KNOWN | {"model": "judge"})
    changed = with_named_client(given, OTHER, "large", None)
    assert changed.explainer_client is None
    assert changed.for_explaining == changed.for_scoring == changed.client
    limited = with_named_client(given, None, None, 2)
    assert [c and (c.model, c.max_concurrency) for c in (limited.explainer_client, limited.scorer_client)] == [
        ("small", 2), ("judge", 2),
    ]  # fmt: skip


def test_where_nobody_was_asked_a_language_model_explains_too() -> None:
    changed = with_named_client(config(explainers=["lexical"]), OTHER, None, None)
    assert [explainer.name for explainer in changed.explainers] == ["simple", "lexical"]


def test_the_variable_fills_in_where_an_endpoint_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert with_named_client(config(), None, None, None).client is None
    monkeypatch.setenv("OPENAI_BASE_URL", OTHER)
    assert client_of(with_named_client(config(), None, None, None)).base_url == OTHER
    named = named_client(None, None, "large", 3)
    assert named == ClientConfig(base_url=OTHER, model="large", max_concurrency=3)


def test_a_model_without_a_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="--model needs --base-url"):
        with_named_client(config(), None, "large", None)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted")
    assert client_of(with_named_client(config(), None, "large", None)).base_url == "https://api.openai.com/v1"


def test_a_budget_in_dollars_needs_the_price_of_what_is_named() -> None:
    with pytest.raises(ConfigError, match=r"budget\.max_usd needs the price of"):
        with_named_client(config(client=KNOWN, budget={"max_usd": 1}), OTHER, None, None)
