"""Stage 3: every explainer on every record."""

from collections.abc import Mapping
from typing import Any

from sae_auto_interp.clients.wrappers.concurrency import first_in_line
from sae_auto_interp.config import ExplainerConfig, RunConfig
from sae_auto_interp.pipeline.clients.open_clients import RunClients
from sae_auto_interp.pipeline.components import build_component, collaborators_of, seeded
from sae_auto_interp.pipeline.evidence import Evidence
from sae_auto_interp.pipeline.open_embedders import OpenEmbedders
from sae_auto_interp.pipeline.run_progress import RunProgress
from sae_auto_interp.pipeline.units import claim_component, may_heal, store_open_failure
from sae_auto_interp.pipeline.workers import isolated
from sae_auto_interp.prompting.asking import asking_again
from sae_auto_interp.prompting.prompts import prompts_digest
from sae_auto_interp.protocols import Client, Embedder, Explainer, Judge
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types import Explanation, Failure, FeatureId
from sae_auto_interp.types.spending import spending_on

STAGE = "explain"


class ExplainStage:
    """The explainers of a run, and which explanations there are already."""

    def __init__(
        self,
        config: RunConfig,
        store: ResultStore,
        clients: RunClients,
        embedders: OpenEmbedders,
        progress: RunProgress,
    ) -> None:
        """Raises `RunDirectoryError` where the run holds explanations made with other settings."""
        self._store = store
        self._progress = progress
        self._explainers: Mapping[str, Explainer] = {
            explainer.name: explainer
            for explainer in (_claimed(e, config, store, clients, embedders) for e in config.explainers)
        }
        self._finished = store.finished_units(STAGE)
        self._reopened = store.times_reopened(STAGE)

    @property
    def names(self) -> tuple[str, ...]:
        """What explanations are filed under."""
        return tuple(self._explainers)

    @property
    def n_done(self) -> int:
        return sum(unit.partition("/")[0] in self._explainers for unit in self._finished)

    def is_done(self, name: str, feature: FeatureId) -> bool:
        return explanation_id(name, feature) in self._finished

    def stored(self, name: str, feature: FeatureId) -> Explanation | None:
        """What is in the store by now; asks nobody."""
        return self._store.explanation(explanation_id(name, feature))

    async def explain(self, name: str, evidence: Evidence) -> Explanation | None:
        """What one explainer says of one feature, stored before it is returned; None where it failed."""
        unit = explanation_id(name, evidence.feature)
        if unit in self._finished:
            return self._store.explanation(unit)
        account, again = spending_on(STAGE, str(evidence.feature)), asking_again(self._reopened.get(unit, 0))
        with account, again, first_in_line():  # its scores wait for it
            outcome = await isolated(STAGE, self._explainers[name].explain(evidence.record))
        if isinstance(outcome, Failure):
            self._keep_failure(unit, outcome)
            return None
        with self._store.unit(STAGE, unit):
            self._store.clear_failures(unit)
            self._store.add_explanation(outcome, unit)
        self._progress.advance_stage(STAGE)
        return outcome

    def _keep_failure(self, unit: str, failure: Failure) -> None:
        """One that may heal leaves the unit open."""
        if may_heal(failure):
            store_open_failure(self._store, unit, failure)
        else:
            with self._store.unit(STAGE, unit):
                self._store.clear_failures(unit)
                self._store.add_failure(failure, unit)
        self._progress.advance_stage(STAGE, [failure.kind])


def explanation_id(explainer: str, feature: FeatureId) -> str:
    """What scores refer to; also the unit of work."""
    return f"{explainer}/{feature}"


def _claimed(
    explainer: ExplainerConfig, config: RunConfig, store: ResultStore, clients: RunClients, embedders: OpenEmbedders
) -> Explainer:
    built = _built(explainer, clients, embedders, config.seed)
    claim_component(store, f"explainer {built.name}", _identity(explainer, built, clients.explainer))
    return built


def _built(explainer: ExplainerConfig, clients: RunClients, embedders: OpenEmbedders, seed: int) -> Explainer:
    """The explainer; one that chooses among explanations gets the judge that also scores them."""
    judge = None
    if Judge in collaborators_of("explainers", explainer):
        collaborators = {Client: clients.scorer, Embedder: embedders}
        judge = build_component("judges", explainer.judge_config, collaborators)
    collaborators = {Client: clients.explainer, Judge: judge}
    return build_component("explainers", seeded("explainers", explainer, seed), collaborators)


def _identity(explainer: ExplainerConfig, component: Explainer, client: Client | None) -> dict[str, Any]:
    """What makes two explainers the same: settings, prompts, the model, and the judge and files where they are used."""
    wanted = collaborators_of("explainers", explainer)
    names: tuple[str, ...] | None = getattr(component, "prompt_names", None)
    own = prompts_digest("explainers", explainer.name)
    identity: dict[str, Any] = {
        "name": explainer.name,
        "settings": explainer.settings,
        "prompts": own if names is None else [prompts_digest("explainers", name) for name in names],
        "model": client.model if client is not None and Client in wanted else None,
    }
    if Judge in wanted:
        identity |= {"judge": explainer.judge_name, "judge_prompts": prompts_digest("judges", "detection")}
        if explainer.judge_config.settings:
            identity["judge_settings"] = explainer.judge_config.settings
    content: str | None = getattr(component, "content_sha256", None)
    if content is not None:
        identity["content"] = content
    return identity
