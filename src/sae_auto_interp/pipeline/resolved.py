"""The run file, read once: what each stage takes of it, checked and as plain values.

`resolve` is where a run and its plan begin. It loads no weights and asks nobody; whatever is wrong with a component or
a setting is said here. Stages are given their part of the result and never see the run file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from sae_auto_interp.config import (
    BudgetConfig,
    CacheConfig,
    ClientConfig,
    CoderConfig,
    ComponentConfig,
    DataConfig,
    ExplainerConfig,
    FeaturesConfig,
    PreflightConfig,
    ResponsesConfig,
    RunConfig,
)
from sae_auto_interp.config.settings import checked_settings
from sae_auto_interp.errors import ConfigError
from sae_auto_interp.features.config import FeatureConfig
from sae_auto_interp.module_names import resolved_indices
from sae_auto_interp.pipeline.components import ResolvedComponent, resolve_component, try_building
from sae_auto_interp.pipeline.run_directory import EvidenceSettings, evidence_settings
from sae_auto_interp.protocols import Client, Judge, PromptReader
from sae_auto_interp.types import TriageLabel

LEXICAL = "lexical"
Stage: TypeAlias = Literal["cache", "explain", "score"]
"""How far a run goes."""


_UP_TO: Mapping[Stage, tuple[Stage, ...]] = {"cache": (), "explain": ("explain",), "score": ("explain", "score")}


@dataclass(frozen=True, slots=True)
class Subject:
    """The subject model and its autoencoders."""

    model: str
    device: str | Mapping[str, str | int]
    dtype: str
    autoencoders: tuple[CoderConfig, ...]
    seed: int
    """Seed of autoencoders that are drawn."""

    @property
    def n_modules(self) -> int:
        """One for each entry whose modules are not named: most files hold one."""
        return sum(len(coder.module_paths or ("",)) for coder in self.autoencoders)


@dataclass(frozen=True, slots=True)
class Text:
    """The text, and how it is cut into rows."""

    data: DataConfig
    seed: int
    n_documents: int
    """Documents that the records of a run need at least: to explain on, to test on, and for development if asked."""


@dataclass(frozen=True, slots=True)
class Caching:
    """How activations are cached, and checked before."""

    cache: CacheConfig
    preflight: PreflightConfig


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a cache is made from."""

    subject: Subject
    text: Text
    caching: Caching


@dataclass(frozen=True, slots=True)
class Records:
    """Which features get a record, and what is in it."""

    config: FeatureConfig
    n_features: int
    """For each module, where `indices` names none."""
    indices: Mapping[str, tuple[int, ...]] | None
    workers: int
    embedder: ResolvedComponent | None
    triage: bool
    skip: tuple[TriageLabel, ...]
    n_logits: int
    seed: int

    def chosen(self, widths: Mapping[str, int]) -> dict[str, tuple[int, ...]] | None:
        """Return `indices` by the names of a run's modules, whose widths are given; None without any.

        Raises `InputError` for a module that the run does not have, and for a feature beyond a module's width.
        """
        return None if self.indices is None else resolved_indices(self.indices, widths, "features.indices")


@dataclass(frozen=True, slots=True)
class ResolvedExplainer:
    """An explainer, and who judges its explanations."""

    explainer: ResolvedComponent
    judge: ResolvedComponent

    @property
    def name(self) -> str:
        """What its results are filed under."""
        return self.explainer.registered_name


@dataclass(frozen=True, slots=True)
class Components:
    """Explainers, and the scorers that each is scored by."""

    explainers: tuple[ResolvedExplainer, ...]
    scorers: tuple[ResolvedComponent, ...]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A language model, and the stages that ask it."""

    settings: ClientConfig | None
    stages: frozenset[Stage]

    def needed(self, until: Stage) -> ClientConfig | None:
        """Its settings where a stage up to `until` asks it, else None."""
        return self.settings if self.stages.intersection(_UP_TO[until]) else None


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The language models of a run, and what they share."""

    explaining: Endpoint
    judging: Endpoint
    reading: Endpoint
    """Rates the tokens of given texts."""
    budget: BudgetConfig
    responses: ResponsesConfig

    @property
    def keeps_responses(self) -> bool:
        return self.responses.mode != "off"


@dataclass(frozen=True, slots=True)
class Controls:
    """For how many features of each module there is each control; None: for all."""

    n_shuffled: int | None
    n_nearest: int | None
    n_hidden: int | None
    n_lexical: int | None


@dataclass(frozen=True, slots=True)
class ResolvedRun:
    """Everything a run needs, in parts."""

    inputs: Inputs
    records: Records
    components: Components
    lexical: Components | None
    """The lexical baseline: its explainer and the scorers that its rule can answer; None where the run has none."""
    endpoints: Endpoints
    controls: Controls
    evidence: EvidenceSettings
    seed: int


def resolve(config: RunConfig) -> ResolvedRun:
    """Read a run file into its parts. Raises `ConfigError` / `UnknownNameError` for what is wrong with it."""
    records = resolve_records(config.features, config.seed)
    components = _components(config.explainers, config.scorers, config.seed)
    endpoints = Endpoints(
        explaining=Endpoint(config.for_explaining, _stages_that_explain(components)),
        judging=Endpoint(config.for_scoring, _stages_that_judge(components)),
        reading=Endpoint(config.for_reading, _stages_that_read(components)),
        budget=config.budget, responses=config.responses,
    )  # fmt: skip
    _check(components, records, endpoints)
    return ResolvedRun(
        inputs=resolve_inputs(config), records=records, components=components,
        lexical=_lexical(components, config.n_lexical), endpoints=endpoints,
        controls=Controls(config.n_shuffled, config.n_nearest, config.n_hidden, config.n_lexical),
        evidence=evidence_settings(config), seed=config.seed,
    )  # fmt: skip


def resolve_inputs(config: RunConfig) -> Inputs:
    """Read what a cache is made from, for commands that explain nothing."""
    settings = config.features.record_settings
    needs_development = settings.get("n_dev") or settings.get("n_non_activating_dev")
    return Inputs(
        Subject(config.model, config.device, config.dtype, config.autoencoders, config.seed),
        Text(config.data, config.seed, n_documents=3 if needs_development else 2),
        Caching(config.cache, config.preflight),
    )


def resolve_records(features: FeaturesConfig, seed: int) -> Records:
    """Read the settings of records. Raises `ConfigError` for impossible ones."""
    found = FeatureConfig(**checked_settings(FeatureConfig, {"seed": seed} | features.record_settings, "features"))
    if found.asks_for("similar") and features.embedder is None:
        raise ConfigError(
            "features asks for windows of kind similar, which an embedding model finds; set features.embedder, e.g. to "
            "{name: sentence_transformers, model: ...}"
        )
    if features.skip and not features.triage:
        raise ConfigError("features.skip goes by labels, which features.triage gives; leave triage on")
    return Records(
        config=found, n_features=features.n_features, indices=features.indices, workers=features.workers,
        embedder=None if features.embedder is None else resolve_component("embedders", features.embedder),
        triage=features.triage, skip=features.skip, n_logits=features.n_logits, seed=seed,
    )  # fmt: skip


def _components(
    explainers: Sequence[ExplainerConfig], scorers: Sequence[ComponentConfig], seed: int
) -> Components:  # fmt: skip
    return Components(
        tuple(
            ResolvedExplainer(
                resolve_component("explainers", each, seed), resolve_component("judges", each.judge_config)
            )
            for each in explainers
        ),
        tuple(resolve_component("scorers", each, seed) for each in scorers),
    )


def _stages_that_explain(components: Components) -> frozenset[Stage]:
    asks = any(Client in each.explainer.collaborators for each in components.explainers)
    return frozenset[Stage](("explain",) if asks else ())


def _stages_that_judge(components: Components) -> frozenset[Stage]:
    """Explainers that choose among explanations have them judged too; some scorers ask by themselves."""
    asking = [each for each in components.explainers if Client in each.judge.collaborators]
    stages = set[Stage]()
    if any(Judge in each.explainer.collaborators for each in asking):
        stages.add("explain")
    if asking or any(Client in scorer.collaborators for scorer in components.scorers):
        stages.add("score")
    return frozenset(stages)


def _stages_that_read(components: Components) -> frozenset[Stage]:
    asks = any(PromptReader in scorer.collaborators for scorer in components.scorers)
    return frozenset[Stage](("score",) if asks else ())


def asks_language_model(
    explainers: Sequence[ExplainerConfig], scorers: Sequence[ComponentConfig], *, has_own_reader: bool
) -> bool:
    """Return whether any explainer, judge or scorer works with a client; texts may be read by a model of its own."""
    found = _components(explainers, scorers, seed=0)
    every = [*found.scorers, *(part for each in found.explainers for part in (each.explainer, each.judge))]
    wanted = frozenset[type]().union(*(each.collaborators for each in every))
    return Client in wanted or (PromptReader in wanted and not has_own_reader)


def _check(components: Components, records: Records, endpoints: Endpoints) -> None:
    """Raise what building the run's components would raise, or what their records will not hold."""
    explaining = [each.explainer for each in components.explainers]
    others = [*(each.judge for each in components.explainers), *components.scorers]
    others += [] if records.embedder is None else [records.embedder]
    for asked, listed in ((endpoints.explaining, explaining), (endpoints.judging, others)):
        for component in listed:
            if Client in component.collaborators and asked.settings is None:
                raise component.lacks(Client, "client")
            if PromptReader in component.collaborators and endpoints.reading.settings is None:
                raise component.lacks(PromptReader, "reader")
            try_building(component)
    names = [each.name for each in components.explainers]
    for each in components.explainers:
        if names.count(each.name) > 1:
            raise ConfigError(
                f"explainers: {each.name} stands there twice; results are filed by name: make two runs of it"
            )
        _check_evidence(each.explainer, records)
    if endpoints.budget.max_usd is not None or endpoints.budget.max_tokens is not None:
        _check_embedders([*explaining, *others])


def _check_embedders(components: Sequence[ResolvedComponent]) -> None:
    """Raise `ConfigError` for an embedding model that another machine may charge for: a cap would not count it."""
    from sae_auto_interp.clients.http.endpoint import is_this_machine

    for component in components:
        address = component.settings.get("base_url") if component.folder == "embedders" else None
        host = None if address is None else urlsplit(str(address)).hostname
        if host is not None and not is_this_machine(host):
            raise ConfigError(
                f"budget: what {host} charges for embeddings (embedders.{component.name}) is not counted under a cap; "
                "embed on this machine, or leave budget.max_usd and budget.max_tokens out"
            )
        _check_embedders(list(component.own.values()))


def _check_evidence(explainer: ResolvedComponent, records: Records) -> None:
    """Raise `ConfigError` for an explainer that needs what this run's records will not hold."""
    if getattr(explainer.component, "needs_logits", False) and records.n_logits == 0:
        raise ConfigError(
            f"explainers.{explainer.name} needs the features' top logits; set features.n_logits, e.g. to 10"
        )
    if getattr(explainer.component, "needs_development", False):
        for name in ("n_dev", "n_non_activating_dev"):
            if not getattr(records.config, name):
                raise ConfigError(f"explainers.{explainer.name} chooses by development examples; set features.{name}")


def _lexical(components: Components, n_lexical: int | None) -> Components | None:
    """The lexical explainer alone, and the scorers that its rule can answer, without judges of their own.

    None where the run file lists that explainer itself, wants no such baseline, or has no such scorer.
    """
    is_listed = any(each.name == LEXICAL for each in components.explainers)
    scorers = _asking_of_each(components.scorers)
    if is_listed or n_lexical == 0 or not scorers:
        return None
    lexical = _components([ExplainerConfig(name=LEXICAL)], [], seed=0)  # it draws nothing
    return replace(lexical, scorers=scorers)


def _asking_of_each(scorers: Sequence[ResolvedComponent]) -> tuple[ResolvedComponent, ...]:
    """Scorers that ask nobody but a judge, about each example alone; each name once, for the first that has it."""
    found: dict[str, ResolvedComponent] = {}
    for scorer in scorers:
        bare = _without_own_judge(scorer)
        if bare.collaborators == frozenset[type]({Judge}) and not hasattr(scorer.component, "n_choices"):
            found.setdefault(scorer.registered_name, bare)
    return tuple(found.values())


def _without_own_judge(scorer: ResolvedComponent) -> ResolvedComponent:
    def rest(settings: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in settings.items() if name != "judge"}

    return replace(scorer, given=rest(scorer.given), own=rest(scorer.own))
