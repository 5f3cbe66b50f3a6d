"""Stage 4: every scorer on every explanation, and on the same explanations shuffled over features.

The shuffled control gives each feature the explanation of another one of its module (a derangement that depends on the
seed alone, so that it is the same after any resume). What an explanation scores above it is what it says about
its own feature.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sae_auto_interp.config import ComponentConfig, RunConfig
from sae_auto_interp.pipeline.components import build_component, explainer_name, seeded
from sae_auto_interp.pipeline.explain_stage import explanation_id
from sae_auto_interp.pipeline.units import claim_component, open_failure, store_open_failure
from sae_auto_interp.pipeline.workers import for_each
from sae_auto_interp.prompts import prompts_digest
from sae_auto_interp.protocols import Client, Judge, Progress, Scorer
from sae_auto_interp.results import ResultStore
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.spending import spending_on
from sae_auto_interp.types import Explanation, FeatureId, Usage

STAGE = "score"
CONTROL_PREFIX = "shuffled:"


@dataclass(frozen=True, slots=True)
class _Job:
    """One explanation under one scorer and judge."""

    scorer: Scorer
    judge: Judge
    explanation: Explanation

    @property
    def explanation_id(self) -> str:
        return explanation_id(self.explanation.explainer, self.explanation.feature)

    @property
    def unit(self) -> str:
        return f"{self.scorer.name}/{self.judge.name}/{self.explanation_id}"


async def run_score_stage(
    config: RunConfig, store: ResultStore, client: Client | None, features: Sequence[FeatureId], progress: Progress
) -> None:
    """Score what is not scored yet; explanations that failed are not scored."""
    jobs = _jobs(config, store, client, features)
    finished = store.finished_units(STAGE)
    open_jobs = [job for job in jobs if job.unit not in finished]
    progress.start(STAGE, len(jobs), len(jobs) - len(open_jobs), "scores")

    async def score(job: _Job) -> None:
        progress.advance(failed=int(await _score(job, store)))

    await for_each(open_jobs, score, n_workers=config.for_scoring.max_concurrency if config.for_scoring else 1)
    progress.finish()


def shuffled_partners(features: Sequence[FeatureId], seed: int) -> dict[FeatureId, FeatureId]:
    """For each feature another one of its module; a feature alone in its module has no partner."""
    partners: dict[FeatureId, FeatureId] = {}
    for module in sorted({feature.module_path for feature in features}):
        own = sorted(feature for feature in features if feature.module_path == module)
        order = derived_rng(seed, "shuffled", FeatureId(module, 0)).permutation(len(own))
        if len(own) > 1:
            partners |= {own[i]: own[j] for i, j in zip(order, np.roll(order, 1), strict=True)}
    return partners


def _jobs(config: RunConfig, store: ResultStore, client: Client | None, features: Sequence[FeatureId]) -> list[_Job]:
    partners = shuffled_partners(features, config.seed)
    by_explainer: dict[str, dict[FeatureId, Explanation]] = {explainer_name(e): {} for e in config.explainers}
    for _, explanation in store.explanations():
        if explanation.explainer in by_explainer:
            by_explainer[explanation.explainer][explanation.feature] = explanation
    jobs: list[_Job] = []
    for explainer in config.explainers:
        own = by_explainer[explainer_name(explainer)]
        judge: Judge = build_component("judges", ComponentConfig(name=explainer.judge_name), {Client: client})
        for scorer in config.scorers:
            built = _scorer(scorer, judge, config, store)
            jobs += [_Job(built, judge, explanation) for explanation in (*own.values(), *_controls(own, partners))]
    return jobs


def _controls(own: dict[FeatureId, Explanation], partners: dict[FeatureId, FeatureId]) -> Iterable[Explanation]:
    """Each explained feature with its partner's explanation, where the partner has one."""
    for feature, explanation in own.items():
        partner = own.get(partners.get(feature, feature))
        if partner is not None and partner.feature != feature:
            name = CONTROL_PREFIX + explanation.explainer
            yield replace(partner, feature=feature, explainer=name, usage=Usage())


def _scorer(scorer: ComponentConfig, judge: Judge, config: RunConfig, store: ResultStore) -> Scorer:
    prompts = prompts_digest("judges", scorer.name)
    claim_component(store, f"scorer {scorer.name} with judge {judge.name}", [scorer.settings, prompts])
    return build_component("scorers", seeded("scorers", scorer, config.seed), {Judge: judge})


async def _score(job: _Job, store: ResultStore) -> bool:
    """Score one explanation and store the outcome; true when something failed."""
    record = store.record(job.explanation.feature)
    assert record is not None, f"{job.explanation.feature} has no record"
    with spending_on(STAGE, str(job.explanation.feature)):
        score = await job.scorer.score(record, job.explanation, job.explanation_id)
    failure = open_failure(score)
    if failure is not None:
        store_open_failure(store, job.unit, failure)
        return True
    with store.unit(STAGE, job.unit):
        store.clear_failures(job.unit)
        if job.explanation.explainer.startswith(CONTROL_PREFIX):
            store.add_explanation(job.explanation, job.explanation_id)
        store.add_score(score, job.judge.name)
    return any(trial.failure is not None for trial in score.trials)
