"""Stage 3: every explainer on every record."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sae_auto_interp.clients.wrappers.concurrency import first_in_line
from sae_auto_interp.pipeline.clients.open_clients import RunClients
from sae_auto_interp.pipeline.components import OpenEmbedders
from sae_auto_interp.pipeline.progress.state import RunProgress
from sae_auto_interp.pipeline.reading_anew import ReadingAnew
from sae_auto_interp.pipeline.resolved import ResolvedExplainer
from sae_auto_interp.pipeline.too_long import TooLongStreak
from sae_auto_interp.pipeline.units import Evidence, claim_component, may_heal, store_open_failure
from sae_auto_interp.pipeline.workers import isolated
from sae_auto_interp.prompting.asking import asking_again
from sae_auto_interp.prompting.prompts import prompts_digest
from sae_auto_interp.prompting.reader_versions import EXPLAINERS
from sae_auto_interp.protocols import Client, Embedder, Explainer, Judge
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types import Explanation, Failure, FeatureId
from sae_auto_interp.types.spending import spending_nothing, spending_on

STAGE = "explain"


class ExplainStage:
    """The explainers of a run, and which explanations there are already."""

    def __init__(
        self,
        explainers: Sequence[ResolvedExplainer],
        store: ResultStore,
        clients: RunClients,
        embedders: OpenEmbedders,
        progress: RunProgress,
        too_long: TooLongStreak | None = None,
        *,
        keeps_responses: bool = True,
    ) -> None:
        """`keeps_responses`: answers are stored, from which results of an older reader can be made anew.

        Raises `RunDirectoryError` where the run holds explanations made with other settings.
        """
        self._too_long = too_long
        self._store = store
        self._progress = progress
        self._explainers: Mapping[str, Explainer] = {
            explainer.name: explainer
            for explainer in (_claimed(each, store, clients, embedders) for each in explainers)
        }
        self._finished = store.finished_units(STAGE)
        self.anew = ReadingAnew(STAGE, store, is_possible=keeps_responses)
        self.anew.watch(self._reader_versions(), self._finished)
        self._finished -= self.anew.units
        self._reopened = store.times_reopened(STAGE)

    @property
    def names(self) -> tuple[str, ...]:
        """What explanations are filed under."""
        return tuple(self._explainers)

    def adapt(self, change: Callable[[Explainer], Explainer]) -> None:
        """Put what `change` makes of each explainer in its place."""
        self._explainers = {name: change(explainer) for name, explainer in self._explainers.items()}

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
        if self.anew.take(unit):
            return await self._read_anew(name, evidence, unit)
        account, again = spending_on(STAGE, str(evidence.feature)), asking_again(self._reopened.get(unit, 0))
        with account, again, first_in_line():  # its scores wait for it
            outcome = await isolated(STAGE, self._explainers[name].explain(evidence.record))
        if isinstance(outcome, Failure):
            self._keep_failure(unit, outcome)
            if self._too_long is not None:
                self._too_long.add([outcome])
            return None
        with self._store.unit(STAGE, unit):
            self._store.clear_failures(unit)
            self._store.add_explanation(outcome, unit)
        self._progress.advance_stage(STAGE)
        return outcome

    def _reader_versions(self) -> dict[str, str]:
        """Return the reader version of each explainer that reads replies."""
        asking = [name for name, e in self._explainers.items() if hasattr(e, "client") or hasattr(e, "judge")]
        return dict.fromkeys(asking, str(EXPLAINERS))

    async def _read_anew(self, name: str, evidence: Evidence, unit: str) -> Explanation | None:
        """What the stored answers come to now. An explanation that says something else loses its scores."""
        self._finished.add(unit)
        old = self._store.explanation(unit)
        account, again = spending_on(STAGE, str(evidence.feature)), asking_again(self._reopened.get(unit, 0))
        with account, again, spending_nothing():
            outcome = await isolated(STAGE, self._explainers[name].explain(evidence.record))
        self._progress.advance_stage(STAGE)
        failure = outcome if isinstance(outcome, Failure) else None
        new = None if isinstance(outcome, Failure) else outcome
        if not self.anew.is_answered([failure] if failure else []):
            return old
        if (old and old.text) != (new and new.text):
            self._store.replace_explanation(STAGE, unit, outcome)
            self.anew.changed()
            if old is not None and new is None:
                self._forget_controls(name, old)
        return new

    def _forget_controls(self, name: str, explanation: Explanation) -> None:
        """Forget the controls in which an explanation that no longer exists was put to other features."""
        for found, control in self._store.explanations():
            is_of_it = control.explainer.endswith(f":{name}") and control.text == explanation.text
            if is_of_it and control.feature.module_path == explanation.feature.module_path:
                self._store.forget_explanation(found)

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
    resolved: ResolvedExplainer, store: ResultStore, clients: RunClients, embedders: OpenEmbedders
) -> Explainer:
    built = _built(resolved, clients, embedders)
    claim_component(store, f"explainer {built.name}", _identity(resolved, built, clients.explainer))
    return built


def _built(resolved: ResolvedExplainer, clients: RunClients, embedders: OpenEmbedders) -> Explainer:
    """The explainer; one that chooses among explanations gets the judge that also scores them."""
    judge = None
    if Judge in resolved.explainer.collaborators:
        judge = resolved.judge.build({Client: clients.scorer, Embedder: embedders})
    return resolved.explainer.build({Client: clients.explainer, Judge: judge})


def _identity(resolved: ResolvedExplainer, component: Explainer, client: Client | None) -> dict[str, Any]:
    """What makes two explainers the same: settings, prompts, the model, and the judge and files where they are used."""
    explainer, judge = resolved.explainer, resolved.judge
    names: tuple[str, ...] | None = getattr(component, "prompt_names", None)
    own = prompts_digest("explainers", explainer.name)
    identity: dict[str, Any] = {
        "name": explainer.name,
        "settings": explainer.given,
        "prompts": own if names is None else [prompts_digest("explainers", name) for name in names],
        "model": client.model if client is not None and Client in explainer.collaborators else None,
    }
    if Judge in explainer.collaborators:
        identity |= {"judge": judge.name, "judge_prompts": prompts_digest("judges", "detection")}
        if judge.given:
            identity["judge_settings"] = judge.given
    if getattr(component, "structured", False):
        identity["answer"] = prompts_digest("explainers", "as_json")
    content: str | None = getattr(component, "content_sha256", None)
    if content is not None:
        identity["content"] = content
    return identity
