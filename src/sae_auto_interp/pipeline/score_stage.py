"""Stage 4: every scorer on every explanation, and on the same explanations shuffled over features.

The shuffled control gives a feature the explanation of another one of its module. What an explanation scores above it
is what it says about its own feature. Which other one: see `flow`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sae_auto_interp.config import ComponentConfig, RunConfig
from sae_auto_interp.pipeline.components import build_component, explainer_name, seeded
from sae_auto_interp.pipeline.evidence import Evidence
from sae_auto_interp.pipeline.explain_stage import explanation_id
from sae_auto_interp.pipeline.run_progress import RunProgress
from sae_auto_interp.pipeline.units import claim_component, open_failure, store_open_failure
from sae_auto_interp.pipeline.workers import isolated, together
from sae_auto_interp.prompts import prompts_digest
from sae_auto_interp.protocols import Client, Judge, Scorer
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types import Explanation, Failure, FeatureId, Score, Usage

STAGE = "score"
CONTROL_PREFIX = "shuffled:"


@dataclass(frozen=True, slots=True)
class _Measure:
    """A scorer and the judge that it asks."""

    scorer: Scorer
    judge: Judge

    def unit(self, explanation_id: str) -> str:
        return score_unit(self.scorer.name, self.judge.name, explanation_id)


class ScoreStage:
    """The scorers of a run, and which scores there are already."""

    def __init__(self, config: RunConfig, store: ResultStore, client: Client | None, progress: RunProgress) -> None:
        """Raises `RunDirectoryError` where the run holds scores made with other settings."""
        self._store = store
        self._progress = progress
        self._measures: Mapping[str, Sequence[_Measure]] = {
            explainer_name(explainer): _measures(explainer.judge_name, config, store, client)
            for explainer in config.explainers
        }
        self._finished = store.finished_units(STAGE)

    def n_scores(self, explainer: str) -> int:
        """Scores of each of its explanations."""
        return len(self._measures[explainer])

    @property
    def n_done(self) -> int:
        """Finished scores of this run's explainers, controls among them."""
        wanted = {
            measure.unit(prefix + explainer)
            for explainer, measures in self._measures.items()
            for measure in measures
            for prefix in ("", CONTROL_PREFIX)
        }
        return sum(unit.rpartition("/")[0] in wanted for unit in self._finished)

    def is_done(self, explainer: str, feature: FeatureId, *, is_control: bool = False) -> bool:
        """Whether nothing is left to do for an explanation, or for its shuffled control."""
        named = explanation_id(CONTROL_PREFIX + explainer if is_control else explainer, feature)
        return all(measure.unit(named) in self._finished for measure in self._measures[explainer])

    async def score(self, explainer: str, explanation: Explanation, evidence: Evidence) -> None:
        """Every score of one explanation that is not there yet, each stored when it is complete."""
        named = explanation_id(explanation.explainer, explanation.feature)
        waiting = [m for m in self._measures[explainer] if m.unit(named) not in self._finished]
        await together(self._score(measure, explanation, named, evidence) for measure in waiting)

    async def _score(self, measure: _Measure, explanation: Explanation, named: str, evidence: Evidence) -> None:
        score = await isolated(STAGE, measure.scorer.score(evidence.record, explanation, named))
        unit = measure.unit(named)
        failure = score if isinstance(score, Failure) else open_failure(score)
        if isinstance(score, Failure):
            with self._store.unit(STAGE, unit):
                self._store.clear_failures(unit)
                self._store.add_failure(score, unit)
        elif failure is not None:
            store_open_failure(self._store, unit, failure)
        else:
            self._keep(measure, unit, explanation, score)
        kinds = _failure_kinds(score) if failure is None else [failure.kind]
        self._progress.advance_stage(STAGE, kinds)

    def _keep(self, measure: _Measure, unit: str, explanation: Explanation, score: Score) -> None:
        with self._store.unit(STAGE, unit):
            self._store.clear_failures(unit)
            if explanation.explainer.startswith(CONTROL_PREFIX):
                self._store.add_explanation(explanation, score.explanation_id)
            self._store.add_score(score, measure.judge.name)


def score_unit(scorer: str, judge: str, explanation_id: str) -> str:
    """The unit of work."""
    return f"{scorer}/{judge}/{explanation_id}"


def shuffled(explanation: Explanation, feature: FeatureId) -> Explanation:
    """Another feature's explanation, as the control of `feature`; it cost nothing."""
    return replace(explanation, feature=feature, explainer=CONTROL_PREFIX + explanation.explainer, usage=Usage())


def _measures(judge_name: str, config: RunConfig, store: ResultStore, client: Client | None) -> list[_Measure]:
    judge: Judge = build_component("judges", ComponentConfig(name=judge_name), {Client: client})
    return [_Measure(_scorer(scorer, judge, config, store), judge) for scorer in config.scorers]


def _scorer(scorer: ComponentConfig, judge: Judge, config: RunConfig, store: ResultStore) -> Scorer:
    prompts = prompts_digest("judges", scorer.name)
    claim_component(store, f"scorer {scorer.name} with judge {judge.name}", [scorer.settings, prompts])
    return build_component("scorers", seeded("scorers", scorer, config.seed), {Judge: judge})


def _failure_kinds(score: Score | Failure) -> list[str]:
    """The kinds of failure among the trials of a score."""
    trials = () if isinstance(score, Failure) else (*score.trials, *score.simulations)
    return sorted({trial.failure.kind for trial in trials if trial.failure is not None})
