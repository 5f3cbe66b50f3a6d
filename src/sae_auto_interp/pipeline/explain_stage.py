"""Stage 3: every explainer on every record."""

from typing import Any

from sae_auto_interp.config import ComponentConfig, ExplainerConfig, RunConfig
from sae_auto_interp.pipeline.client_stack import RunClients
from sae_auto_interp.pipeline.components import build_component, collaborators_of, seeded
from sae_auto_interp.pipeline.units import claim_component, may_heal, store_open_failure
from sae_auto_interp.pipeline.workers import for_each
from sae_auto_interp.prompts import prompts_digest
from sae_auto_interp.protocols import Client, Explainer, Judge, Progress
from sae_auto_interp.results import ResultStore
from sae_auto_interp.spending import spending_on
from sae_auto_interp.types import Failure, FeatureId

STAGE = "explain"


async def run_explain_stage(
    config: RunConfig, store: ResultStore, clients: RunClients, features: list[FeatureId], progress: Progress
) -> None:
    """Explain what is not explained yet."""
    explainers = [(e, _built(e, clients, config.seed)) for e in config.explainers]
    finished = store.finished_units(STAGE)
    work = [
        (component, feature)
        for _, component in explainers
        for feature in features
        if explanation_id(component.name, feature) not in finished
    ]
    for explainer, component in explainers:
        claim_component(store, f"explainer {component.name}", _identity(explainer, component, clients.explainer))
    total = len(explainers) * len(features)
    progress.start(STAGE, total, total - len(work), "explanations")

    async def explain(item: tuple[Explainer, FeatureId]) -> None:
        component, feature = item
        progress.advance(failed=int(await _explain(component, feature, store)))

    await for_each(work, explain, n_workers=config.for_explaining.max_concurrency if config.for_explaining else 1)
    progress.finish()


def _built(explainer: ExplainerConfig, clients: RunClients, seed: int) -> Explainer:
    """The explainer; one that chooses among explanations gets the judge that also scores them."""
    judge = None
    if Judge in collaborators_of("explainers", explainer):
        judge = build_component("judges", ComponentConfig(name=explainer.judge_name), {Client: clients.scorer})
    collaborators = {Client: clients.explainer, Judge: judge}
    return build_component("explainers", seeded("explainers", explainer, seed), collaborators)


def explanation_id(explainer: str, feature: FeatureId) -> str:
    """What scores refer to; also the unit of work."""
    return f"{explainer}/{feature}"


async def _explain(explainer: Explainer, feature: FeatureId, store: ResultStore) -> bool:
    """Explain one feature and store the outcome; true when it failed."""
    record = store.record(feature)
    assert record is not None, f"{feature} has no record"
    with spending_on(STAGE, str(feature)):
        outcome = await explainer.explain(record)
    unit = explanation_id(explainer.name, feature)
    if isinstance(outcome, Failure) and may_heal(outcome):
        store_open_failure(store, unit, outcome)
        return True
    with store.unit(STAGE, unit):
        store.clear_failures(unit)
        if isinstance(outcome, Failure):
            store.add_failure(outcome, unit)
        else:
            store.add_explanation(outcome, unit)
    return isinstance(outcome, Failure)


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
    content: str | None = getattr(component, "content_sha256", None)
    if content is not None:
        identity["content"] = content
    return identity
