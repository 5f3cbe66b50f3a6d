"""Build components from the run file: settings checked against the component's fields, collaborators injected."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

from pydantic import ConfigDict, ValidationError, create_model

from sae_auto_interp.config import ComponentConfig, RunConfig
from sae_auto_interp.errors import ConfigError, UnknownNameError
from sae_auto_interp.protocols import Client, Judge
from sae_auto_interp.registry import load_component
from sae_auto_interp.types import Failure, Request, Response, ShownExample, Usage, Verdict

COLLABORATORS = (Client, Judge)


class _Placeholder:
    """Stands for a client or a judge where a component is only made to see whether it can be; answers nothing."""

    name = model = "placeholder"

    async def generate(self, request: Request) -> Response:
        raise AssertionError("a placeholder was asked")

    async def judge(
        self, explanation: str, examples: Sequence[ShownExample], task: str
    ) -> tuple[list[Verdict | Failure], Usage]:
        raise AssertionError("a placeholder was asked")

    async def close(self) -> None:
        """Nothing is open."""


def build_component(folder: str, config: ComponentConfig, collaborators: Mapping[type, Any]) -> Any:
    """The component `config.name` of a folder. Raises `ConfigError` / `UnknownNameError` for a wrong setting."""
    component, settings, wanted = _checked(folder, config)
    for field in dataclasses.fields(component):
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if field.init and not has_default and field.name not in settings and field.name not in wanted:
            raise ConfigError(f"{folder}.{config.name} needs a setting: {field.name}")
    for protocol in wanted.values():
        if collaborators.get(protocol) is None:
            raise _needs_model(folder, config)
    return component(**settings, **{name: collaborators[protocol] for name, protocol in wanted.items()})


def collaborators_of(folder: str, config: ComponentConfig) -> frozenset[type]:
    """The protocols that a component wants to be given."""
    return frozenset(_checked(folder, config)[2].values())


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
    judges = [ComponentConfig(name=explainer.judge_name) for explainer in config.explainers]
    chosen = {"explainers": config.explainers, "judges": judges, "scorers": config.scorers}
    for folder, components in chosen.items():
        for component in components:
            wanted = collaborators_of(folder, component)
            endpoint = config.for_explaining if folder == "explainers" else config.for_scoring
            if Client in wanted and endpoint is None:
                raise _needs_model(folder, component)
            if ":" not in component.name:  # code from outside may do anything when it is made
                build_component(folder, component, dict.fromkeys(COLLABORATORS, _Placeholder()))
    names = [explainer_name(explainer) for explainer in config.explainers]
    for explainer, name in zip(config.explainers, names, strict=True):
        if names.count(name) > 1:
            raise ConfigError(f"explainers: {name} stands there twice; results are filed by name: make two runs of it")
        _check_evidence(explainer, config)


def _check_evidence(explainer: ComponentConfig, config: RunConfig) -> None:
    """Raise `ConfigError` for an explainer that needs what this run's records will not hold."""
    component = load_component("explainers", explainer.name)
    if getattr(component, "needs_logits", False):
        raise ConfigError(
            f"explainers.{explainer.name} needs the features' top logits, which runs do not compute; "
            "use max_activation, or give it records with logits from Python"
        )
    if getattr(component, "needs_development", False):
        for name in ("n_dev", "n_non_activating_dev"):
            if not config.features.record_settings.get(name):
                raise ConfigError(f"explainers.{explainer.name} chooses by development examples; set features.{name}")


def checked_settings(
    component: type, settings: Mapping[str, Any], where: str, exclude: set[str] | None = None
) -> dict[str, Any]:
    """Settings converted to the types of a dataclass's fields."""
    hints = get_type_hints(component)
    fields = {
        f.name: (hints[f.name], ...)
        for f in dataclasses.fields(component)
        if f.init and f.name not in (exclude or set())
    }
    for name in settings:
        if name not in fields:
            raise UnknownNameError(f"setting of {where}", name, fields)
    chosen: dict[str, Any] = {name: fields[name] for name in settings}
    model = create_model("Settings", __config__=ConfigDict(arbitrary_types_allowed=True), **chosen)
    try:
        return {name: getattr(model.model_validate(dict(settings)), name) for name in settings}
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(f"{where}.{problem['loc'][0]}: {problem['msg']} (got {problem['input']!r})") from error


def _checked(folder: str, config: ComponentConfig) -> tuple[type, dict[str, Any], dict[str, type]]:
    """The class, its settings in their types, and {field: protocol} of the collaborators that it wants."""
    component = load_component(folder, config.name)
    wanted = {name: hint for name, hint in get_type_hints(component).items() if hint in COLLABORATORS}
    settings = checked_settings(component, config.settings, f"{folder}.{config.name}", exclude=set(wanted))
    return component, settings, wanted


def _needs_model(folder: str, config: ComponentConfig) -> ConfigError:
    return ConfigError(
        f"{folder}.{config.name} needs a language model; give a client section, or --base-url and --model"
    )
