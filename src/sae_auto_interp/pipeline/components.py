"""Components of the run file, read once: class, settings in their types, and what each wants to be given.

A judge or an embedder that a component works with may be a setting of its own: {name: detection, judge: {name: hidden,
of: llm}} or {name: embedding, embedder: {name: sentence_transformers, model: ...}}. It is then built from that, and
otherwise given as any collaborator is: {name: detection, judge: hidden} hides the explanation from the explainer's
judge.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import ValidationError

from sae_auto_interp.config import ComponentConfig, fingerprint
from sae_auto_interp.config.settings import checked_settings
from sae_auto_interp.errors import ConfigError
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


@dataclass(frozen=True, slots=True)
class ResolvedComponent:
    """A component of the run file: which class it is, its settings, and what it wants to be given."""

    folder: str
    name: str
    """As the run file has it: a registered name, or "package.module:Class"."""
    component: type[Any]
    given: Mapping[str, Any]
    """Its settings as the run file has them; what makes two components the same."""
    settings: Mapping[str, Any]
    """The same in the types of the component's fields, with the run's seed where it has one and was given none."""
    wanted: Mapping[str, type]
    """{field: protocol} of what it is given when it is built."""
    own: Mapping[str, "ResolvedComponent"]
    """{field: component} of the judges and embedders among its settings."""

    @property
    def collaborators(self) -> frozenset[type]:
        """The protocols that it wants to be given, and those that its own judge or embedder does."""
        found = {protocol for name, protocol in self.wanted.items() if name not in self.own}
        return frozenset(found.union(*(own.collaborators for own in self.own.values())))

    @property
    def works_with(self) -> frozenset[type]:
        """The protocols of all that it works with, given or among its settings, and what those work with."""
        return frozenset(self.wanted.values()).union(*(own.works_with for own in self.own.values()))

    @property
    def registered_name(self) -> str:
        """What its results are filed under: its own name, also when it was given as "package.module:Class"."""
        return str(self.component.name)

    def build(self, collaborators: Mapping[type, Any]) -> Any:
        """Build it with what is given for each protocol; for `Embedder` that is the `OpenEmbedders` of the run.

        Raises `ConfigError` for a setting that is missing or does not go with the others, and for a protocol of which
        nothing is given.
        """
        for field in dataclasses.fields(self.component):
            has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
            if field.init and not has_default and field.name not in self.settings and field.name not in self.wanted:
                raise ConfigError(f"{self.folder}.{self.name} needs a setting: {field.name}")
        built: dict[str, Any] = {}
        for name, protocol in self.wanted.items():
            if name in self.own:
                own = self.own[name]
                is_embedder = protocol is Embedder
                built[name] = collaborators[Embedder].opened(own) if is_embedder else own.build(collaborators)
            elif protocol is Embedder or collaborators.get(protocol) is None:
                raise self.lacks(protocol, name)
            else:
                built[name] = collaborators[protocol]
        return self.component(**self.settings, **built)

    def lacks(self, protocol: type, name: str) -> ConfigError:
        """What to say where nothing is there for a protocol that the component wants as `name`."""
        where = f"{self.folder}.{self.name}"
        if protocol is Embedder:
            return ConfigError(
                f"{where} needs an embedding model; write {{name: {self.name}, {name}: "
                "{name: sentence_transformers, model: ...}}"
            )
        if protocol is PromptReader:
            return ConfigError(
                f"{where} needs a model that rates the tokens of a given text (prompt log-probabilities); "
                "give a section prompt_reader, or a client that does so"
            )
        if protocol is ActivationReader:
            return ConfigError(f"{where} needs the subject model; give it an ActivationReader")
        if protocol is Judge and self.folder == "judges":
            return ConfigError(f"{where} needs a judge to ask; write {{name: {self.name}, {name}: llm}}")
        return ConfigError(f"{where} needs a language model; give a client section, or --base-url and --model")


def resolve_component(folder: str, config: ComponentConfig, seed: int | None = None) -> ResolvedComponent:
    """Read the settings of one component. Raises `ConfigError` / `UnknownNameError` for a wrong name or setting.

    `seed`: the run's, for a component that has a seed and was given none.
    """
    component = load_component(folder, config.name)
    wanted = {name: hint for name, hint in get_type_hints(component).items() if hint in COLLABORATORS}
    own = _own_collaborators(folder, config, wanted)
    plain = {name: value for name, value in config.settings.items() if name not in own}
    settings = checked_settings(component, plain, f"{folder}.{config.name}", exclude=set(wanted))
    has_seed = any(field.name == "seed" for field in dataclasses.fields(component))
    if seed is not None and has_seed and "seed" not in settings:
        settings = {"seed": seed} | settings
    return ResolvedComponent(folder, config.name, component, config.settings, settings, wanted, own)


def _own_collaborators(
    folder: str, config: ComponentConfig, wanted: Mapping[str, type]
) -> dict[str, ResolvedComponent]:
    """The judges and embedders among a component's settings."""
    found: dict[str, ResolvedComponent] = {}
    for name, value in config.settings.items():
        if wanted.get(name) in FOLDERS_OF_SETTINGS:
            try:
                own = ComponentConfig.model_validate(value)
            except ValidationError as error:
                form = f"a name, or {{name: ..., and its settings}} (got {value!r})"
                raise ConfigError(f"{folder}.{config.name}.{name} must be {form}") from error
            found[name] = resolve_component(FOLDERS_OF_SETTINGS[wanted[name]], own)
    return found


class OpenEmbedders:
    """The embedding models of a run: each is opened once, however many ask for it, and remembers what it was asked."""

    def __init__(self) -> None:
        self._open: dict[str, Embedder] = {}

    def opened(self, component: ResolvedComponent) -> Embedder:
        """The embedder of these settings; raises what building it does."""
        from sae_auto_interp.embedders import RememberingEmbedder

        key = fingerprint([component.name, component.given])
        if key not in self._open:
            self._open[key] = RememberingEmbedder(component.build({}))
        return self._open[key]

    async def close(self) -> None:
        for embedder in self._open.values():
            await embedder.close()


def try_building(component: ResolvedComponent) -> None:
    """Raise now what building the component would raise later, before any work is done.

    Code from outside may do anything when it is made, so it is not tried.
    """
    if ":" in component.name:
        return
    given: dict[type, Any] = dict.fromkeys(COLLABORATORS, _Placeholder()) | {Embedder: OpenEmbedders()}
    if component.folder == "judges":
        del given[Judge]  # an explainer's judge is given none: there is no other yet
    component.build(given)


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
