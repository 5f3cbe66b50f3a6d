"""The language model that the command line names, in place of the run file's.

What is named changes the run file's client, and nothing else of it: limits, retries and the place of the key stay. Its
price does not, where another model or another server is named, for it is the price of that one. `OPENAI_BASE_URL` names
nothing: it fills in where an endpoint is needed and none is known.
"""

import os

from sae_auto_interp.config import ClientConfig, ExplainerConfig, RunConfig, openai_endpoint, parse_config
from sae_auto_interp.errors import InputError
from sae_auto_interp.pipeline.resolved import asks_language_model

VARIABLE = "OPENAI_BASE_URL"


def named_client(
    known: ClientConfig | None, base_url: str | None, model: str | None, max_concurrency: int | None
) -> ClientConfig | None:
    """What is named, on top of what is `known`; None where there is neither, nor the variable.

    Raises `InputError` for a model without a place.
    """
    named = {"base_url": base_url, "model": model, "max_concurrency": max_concurrency}
    given = {name: value for name, value in named.items() if value is not None}
    if known is None:
        known = _client_elsewhere(model) if base_url is None else ClientConfig()
    if known is None or not given:
        return known
    changed = known.model_dump() | given
    if (changed["base_url"], changed["model"]) != (known.base_url, known.model):
        changed["price"] = None
    return ClientConfig.model_validate(changed)


def with_named_client(
    config: RunConfig, base_url: str | None, model: str | None, max_concurrency: int | None
) -> RunConfig:
    """A run file in which one named endpoint explains and judges; a language model explains then, if none did.

    Raises `InputError` for a model without a place, `ConfigError` for what does not go with the rest of the run file.
    """
    known = config.for_scoring or config.for_explaining
    has_own_reader = config.prompt_reader is not None
    asks = asks_language_model(config.explainers, config.scorers, has_own_reader=has_own_reader)
    if base_url is None and model is None and (known is not None or not asks):
        return _with_limit(config, max_concurrency)
    client = named_client(known, base_url, model, max_concurrency)
    if client is None:
        return config  # what is missing is said where it is looked for
    explainers = config.explainers
    if not asks:
        explainers = (ExplainerConfig(name="simple"), *explainers)
    endpoints = {"client": client, "explainer_client": None, "scorer_client": None}
    changed = config.model_copy(update={**endpoints, "explainers": explainers})
    return parse_config(changed.model_dump(mode="json"))  # checked as a whole: a budget in dollars needs prices


def _with_limit(config: RunConfig, max_concurrency: int | None) -> RunConfig:
    """Every endpoint of explainers and judges with this limit, where one is named."""
    sections = {name: getattr(config, name) for name in ("client", "explainer_client", "scorer_client")}
    changed = {
        name: section.model_copy(update={"max_concurrency": max_concurrency})
        for name, section in sections.items()
        if section is not None and max_concurrency is not None
    }
    return config.model_copy(update=changed)


def _client_elsewhere(model: str | None) -> ClientConfig | None:
    """At the place in the variable, or for a model that is named OpenAI's own, where there is a key."""
    place = os.environ.get(VARIABLE)
    if place is None and model is None:
        return None
    place = place or openai_endpoint()
    if place is None:
        raise InputError(f"--model needs --base-url (or {VARIABLE}), or OPENAI_API_KEY for OpenAI's own endpoint")
    return ClientConfig(base_url=place)
