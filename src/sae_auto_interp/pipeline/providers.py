"""From `client` in the run file to the bare client of its kind: a component in clients/ that reaches a model by itself.

In: ClientConfig. Out: a Provider, without wrappers and not yet asked anything. Its fields say which settings it takes:
those that all kinds share (`base_url`, `model`, `api_key_env`, `timeout_seconds`) and its own, from `client.options`.
"""

import dataclasses
import inspect
from typing import Any

from sae_auto_interp.config import ClientConfig, resolve_path
from sae_auto_interp.config.settings import checked_settings
from sae_auto_interp.errors import ConfigError, UnknownNameError
from sae_auto_interp.protocols import Provider
from sae_auto_interp.registry import component_names, load_component

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
