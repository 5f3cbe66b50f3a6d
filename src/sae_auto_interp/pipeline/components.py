"""Build components from the run file: settings checked against the component's fields, collaborators injected.

A judge or an embedder that a component works with may be a setting of its own: {name: detection, judge: {name: hidden,
of: llm}} or {name: embedding, embedder: {name: sentence_transformers, model: ...}}. It is then built from that, and
otherwise injected as any collaborator is: {name: detection, judge: hidden} hides the explanation from the explainer's
judge.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

from pydantic import ValidationError

from sae_auto_interp.config import ComponentConfig, RunConfig
from sae_auto_interp.config.settings import checked_settings
from sae_auto_interp.errors import ConfigError
from sae_auto_interp.pipeline.open_embedders import OpenEmbedders
from sae_auto_interp.protocols import ActivationReader, Client, Embedder, Judge, PromptReader
from sae_auto_interp.registry import load_component
from sae_auto_interp.types import (
    Failure,
    FeatureId,
    PromptLogprobs,
    PromptRequest,
    Request,
    Response,
    ShownExample,
    TextActivations,
    Usage,
    Verdict,
)

COLLABORATORS = (Client, Judge, Embedder, PromptReader, ActivationReader)
FOLDERS_OF_SETTINGS: Mapping[type, str] = {Judge: "judges", Embedder: "embedders"}
"""Collaborators that may be settings of the component that works with them, and where they are registered."""


class _Placeholder:
    """Stands for any collaborator where a component is only made to see whether it can be; answers nothing."""

    name = model = "placeholder"

    async def generate(self, request: Request) -> Response:
        raise AssertionError("a placeholder was asked")

    async def judge(
        self, explanation: str, examples: Sequence[ShownExample], task: str
    ) -> tuple[list[Verdict | Failure], Usage]:
        raise AssertionError("a placeholder was asked")

    async def read(self, request: PromptRequest) -> PromptLogprobs:
        raise AssertionError("a placeholder was asked")

    async def activations(self, texts: Sequence[str], feature: FeatureId) -> list[TextActivations]:
        raise AssertionError("a placeholder was asked")

    async def close(self) -> None:
        """Nothing is open."""


def build_component(folder: str, config: ComponentConfig, collaborators: Mapping[type, Any]) -> Any:
    """The component `config.name` of a folder. Raises `ConfigError` / `UnknownNameError` for a wrong setting.

    `collaborators`: what is injected for each protocol; for `Embedder` the `OpenEmbedders` of the run.
    """
    component, settings, wanted = _checked(folder, config)
    own = _own_collaborators(folder, config, wanted)
    for field in dataclasses.fields(component):
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if field.init and not has_default and field.name not in settings and field.name not in wanted:
            raise ConfigError(f"{folder}.{config.name} needs a setting: {field.name}")
    given: dict[str, Any] = {}
    for name, protocol in wanted.items():
        if name in own:
            given[name] = _built_setting(protocol, own[name], collaborators)
        elif protocol is Embedder or collaborators.get(protocol) is None:
            raise _needs(protocol, name, folder, config)
        else:
            given[name] = collaborators[protocol]
    return component(**settings, **given)


def collaborators_of(folder: str, config: ComponentConfig) -> frozenset[type]:
    """The protocols that a component wants to be given, and those that its own judge or embedder does."""
    _, _, wanted = _checked(folder, config)
    found: set[type] = set(wanted.values())
    for name, own in _own_collaborators(folder, config, wanted).items():
        found = (found - {wanted[name]}) | collaborators_of(FOLDERS_OF_SETTINGS[wanted[name]], own)
    return frozenset(found)


def asks_language_model(config: RunConfig) -> bool:
    """Whether any explainer, judge or scorer of the run works with a client."""
    judges = [explainer.judge_config for explainer in config.explainers]
    chosen = {"explainers": config.explainers, "judges": judges, "scorers": config.scorers}
    wanted = {protocol for folder, listed in chosen.items() for c in listed for protocol in collaborators_of(folder, c)}
    return Client in wanted or (PromptReader in wanted and config.prompt_reader is None)


def explainer_name(config: ComponentConfig) -> str:
    """What an explainer's results are filed under: its own name, also when it was given as "package.module:Class"."""
    return str(load_component("explainers", config.name).name)


def seeded(folder: str, config: ComponentConfig, seed: int) -> ComponentConfig:
    """The component with the run's seed, if it has a seed and was given none."""
    has_seed = any(f.name == "seed" for f in dataclasses.fields(load_component(folder, config.name)))
    if not has_seed or "seed" in config.settings:
        return config
    return ComponentConfig.model_validate({"name": config.name, "seed": seed} | config.settings)


def check_components(config: RunConfig) -> None:
    """Raise now what building the run's components would raise later, before any work is done."""
    judges = [explainer.judge_config for explainer in config.explainers]
    chosen = {"explainers": config.explainers, "judges": judges, "scorers": config.scorers}
    if config.features.embedder is not None:
        chosen["embedders"] = [config.features.embedder]
    placeholders = dict.fromkeys(COLLABORATORS, _Placeholder()) | {Embedder: OpenEmbedders()}
    for folder, components in chosen.items():
        for component in components:
            wanted = collaborators_of(folder, component)
            endpoint = config.for_explaining if folder == "explainers" else config.for_scoring
            if Client in wanted and endpoint is None:
                raise _needs(Client, "client", folder, component)
            if PromptReader in wanted and config.for_reading is None:
                raise _needs(PromptReader, "reader", folder, component)
            if ":" not in component.name:  # code from outside may do anything when it is made
                build_component(folder, component, _without_judge(placeholders) if folder == "judges" else placeholders)
    names = [explainer_name(explainer) for explainer in config.explainers]
    for explainer, name in zip(config.explainers, names, strict=True):
        if names.count(name) > 1:
            raise ConfigError(f"explainers: {name} stands there twice; results are filed by name: make two runs of it")
        _check_evidence(explainer, config)


def _without_judge(collaborators: Mapping[type, Any]) -> dict[type, Any]:
    """What an explainer's judge is given: there is no other judge yet."""
    return {protocol: given for protocol, given in collaborators.items() if protocol is not Judge}


def _check_evidence(explainer: ComponentConfig, config: RunConfig) -> None:
    """Raise `ConfigError` for an explainer that needs what this run's records will not hold."""
    component = load_component("explainers", explainer.name)
    if getattr(component, "needs_logits", False) and config.features.n_logits == 0:
        raise ConfigError(
            f"explainers.{explainer.name} needs the features' top logits; set features.n_logits, e.g. to 10"
        )
    if getattr(component, "needs_development", False):
        for name in ("n_dev", "n_non_activating_dev"):
            if not config.features.record_settings.get(name):
                raise ConfigError(f"explainers.{explainer.name} chooses by development examples; set features.{name}")


def _checked(folder: str, config: ComponentConfig) -> tuple[type, dict[str, Any], dict[str, type]]:
    """The class, its settings in their types, and {field: protocol} of the collaborators that it wants."""
    component = load_component(folder, config.name)
    wanted = {name: hint for name, hint in get_type_hints(component).items() if hint in COLLABORATORS}
    own = _own_collaborators(folder, config, wanted)
    plain = {name: value for name, value in config.settings.items() if name not in own}
    settings = checked_settings(component, plain, f"{folder}.{config.name}", exclude=set(wanted))
    return component, settings, wanted


def _own_collaborators(folder: str, config: ComponentConfig, wanted: Mapping[str, type]) -> dict[str, ComponentConfig]:
    """The judges and embedders among a component's settings."""
    found: dict[str, ComponentConfig] = {}
    for name, value in config.settings.items():
        if wanted.get(name) in FOLDERS_OF_SETTINGS:
            try:
                found[name] = ComponentConfig.model_validate(value)
            except ValidationError as error:
                form = f"a name, or {{name: ..., and its settings}} (got {value!r})"
                raise ConfigError(f"{folder}.{config.name}.{name} must be {form}") from error
    return found


def _built_setting(protocol: type, config: ComponentConfig, collaborators: Mapping[type, Any]) -> Any:
    if protocol is Embedder:
        return collaborators[Embedder].opened(config, build_component)
    return build_component(FOLDERS_OF_SETTINGS[protocol], config, collaborators)


def _needs(protocol: type, name: str, folder: str, config: ComponentConfig) -> ConfigError:
    where = f"{folder}.{config.name}"
    if protocol is Embedder:
        return ConfigError(
            f"{where} needs an embedding model; write {{name: {config.name}, {name}: "
            "{name: sentence_transformers, model: ...}}"
        )
    if protocol is PromptReader:
        return ConfigError(
            f"{where} needs a model that rates the tokens of a given text (prompt log-probabilities); "
            "give a section prompt_reader, or a client that does so"
        )
    if protocol is ActivationReader:
        return ConfigError(f"{where} needs the subject model; give it an ActivationReader")
    if protocol is Judge and folder == "judges":
        return ConfigError(f"{where} needs a judge to ask; write {{name: {config.name}, {name}: llm}}")
    return ConfigError(f"{where} needs a language model; give a client section, or --base-url and --model")
