"""A results file -> `RunSummary`: every number that a table or page of the run prints.

Beside each variant stands its shuffled control: the same features and the same trials, judged with the explanation
of another feature (explainer `shuffled:<explainer>`). What an explanation is worth is the paired difference.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from sae_auto_interp.metrics import balanced_accuracy, mean_over_features, paired_difference, skill
from sae_auto_interp.metrics.bootstrap import DEFAULT_RESAMPLES
from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL
from sae_auto_interp.metrics.over_features import defined
from sae_auto_interp.report.summary.agreement import Agreement, judge_agreements, scorer_agreements
from sae_auto_interp.report.summary.baselines import above_chance, above_shuffled, baselines_of
from sae_auto_interp.report.summary.chosen import choices_of
from sae_auto_interp.report.summary.evidence import count_evidence, evidence_of
from sae_auto_interp.report.summary.failures import count_kinds, explainer_failures, group_failures
from sae_auto_interp.report.summary.feature_summaries import Material, feature_summaries
from sae_auto_interp.report.summary.further import FURTHER_RESAMPLES, further_metrics
from sae_auto_interp.report.summary.other_scores import is_one_sided, other_scores, own_values
from sae_auto_interp.report.summary.spending import spending_rows
from sae_auto_interp.report.summary.values import ExplainerSummary, OtherScores, RunSummary, VariantSummary
from sae_auto_interp.report.summary.variants import (
    ScoresByVariant,
    Variant,
    is_control,
    primary_variant,
    reading_order,
    scores_by_variant,
)
from sae_auto_interp.results import RESULTS_FILE, ResultStore
from sae_auto_interp.types import Estimate, Explanation, FeatureId, Score, ScoreKind, Usage

V = TypeVar("V")
_OTHER_KINDS: tuple[ScoreKind, ...] = ("ranking", "choice", "simulation")


@dataclass(frozen=True, slots=True)
class _Judged:
    """All verdicts of the run, controls included, with their balanced accuracies."""

    material: Material
    accuracies: Mapping[Variant, Mapping[FeatureId, Estimate]]
    seed: int
    n_resamples: int

    @property
    def level(self) -> float:
        return self.material.level

    @property
    def scores(self) -> ScoresByVariant:
        return self.material.verdicts

    @property
    def matched(self) -> list[Variant]:
        """The variants that are no controls, in reading order."""
        return sorted((v for v in self.scores if not is_control(v.explainer)), key=reading_order)

    @property
    def densities(self) -> Mapping[FeatureId, float]:
        """Share of windows in which each feature fires, where that was counted."""
        known = {feature: self.material.window_density(feature) for feature in self.material.evidence}
        return {feature: density for feature, density in known.items() if density is not None}

    def generator(self, what: str, variant: Variant) -> np.random.Generator:
        return report_generator(self.seed, what, variant)


def summarise(run_dir: Path, level: float = DEFAULT_LEVEL, n_resamples: int = DEFAULT_RESAMPLES) -> RunSummary:
    """Summarise the run in `run_dir`, also while it is still going on."""
    with ResultStore.open(run_dir / RESULTS_FILE, read_only=True, verify=True) as store:
        return summarise_store(store, level, n_resamples)


def summarise_store(
    store: ResultStore, level: float = DEFAULT_LEVEL, n_resamples: int = DEFAULT_RESAMPLES
) -> RunSummary:
    """Summarise an open store."""
    info, stored, every_score = store.info(), store.explanations(), store.scores()
    material = _material(store, stored, every_score, level)
    accuracies = {v: {f: balanced_accuracy(s, level) for f, s in of.items()} for v, of in material.verdicts.items()}
    judged = _Judged(material, accuracies, run_seed(info), n_resamples)
    primary = primary_variant(judged.matched, [e.explainer for e in material.explanations], run_order(info))
    few = min(n_resamples, FURTHER_RESAMPLES)
    return RunSummary(
        info=info | _fitted(material.explanations, [score for _, score in every_score]),
        level=level,
        primary=primary,
        variants=tuple(_variant_summary(v, judged) for v in judged.matched),
        explainers=_explainers(material, primary),
        features=feature_summaries(material, primary),
        failures=group_failures(material.failures, (score for _, score in every_score)),
        usage=sum((*(e.usage for e in material.explanations), *(score.usage for _, score in every_score)), Usage()),
        evidence=count_evidence(material.evidence.values(), material.failures),
        others=_other_scores(judged),
        agreements=_agreements(judged, few),
        choices=tuple(choices_of(material.explanations, _matched(accuracies), judged.generator, level, few)),
        spending=spending_rows(store.spending()),
    )


def _fitted(explanations: Sequence[Explanation], scores: Sequence[Score]) -> dict[str, str]:
    """What was shortened so that prompts fit the models' context; empty where nothing was."""
    fewer, split = sum(e.n_shown is not None for e in explanations), sum(score.n_split for score in scores)
    said = [f"{fewer:,} with fewer examples (explaining)"] if fewer else []
    said += [f"{split:,} shown in smaller groups (judging)"] if split else []
    return {"prompts_shortened_to_fit": "; ".join(said)} if said else {}


def _material(
    store: ResultStore, stored: list[tuple[str, Explanation]], every_score: list[tuple[str, Score]], level: float
) -> Material:
    explainer_of = {name: explanation.explainer for name, explanation in stored}
    verdicts = scores_by_variant(every_score, explainer_of)
    one_sided = {v: of for v, of in verdicts.items() if is_one_sided(of.values())}
    return Material(
        evidence={record.feature: evidence_of(record, level) for record in store.records()},
        verdicts={v: of for v, of in verdicts.items() if v not in one_sided},
        others={**scores_by_variant(every_score, explainer_of, _OTHER_KINDS), **one_sided},
        explanations=[explanation for _, explanation in stored],
        failures=store.failures(),
        level=level,
    )


def run_order(info: Mapping[str, str]) -> list[str]:
    """The explainers in the order of the run file; empty where the run did not note it."""
    return [name for name in info.get("explainers", "").split(", ") if name]


def run_seed(info: Mapping[str, str]) -> int:
    """The seed that the run recorded; 0 where it recorded none."""
    text = info.get("seed", "0")
    return int(text) if text.isdecimal() else 0


def report_generator(seed: int, what: str, variant: Variant) -> np.random.Generator:
    """Random numbers that depend on the run's seed and on what they are for, and on nothing else."""
    label = "/".join(("report", what, variant.explainer, variant.scorer, variant.judge))
    return np.random.default_rng([seed, zlib.crc32(label.encode("utf-8", "surrogatepass"))])


def _variant_summary(variant: Variant, judged: _Judged) -> VariantSummary:
    level, n_resamples = judged.level, judged.n_resamples
    own, other = judged.accuracies[variant], judged.accuracies.get(variant.control, {})
    n_failed = sum(e.n_failed for e in (*own.values(), *other.values()))
    values, control_values = defined(own), defined(other)
    scores = judged.scores[variant]
    trials = [trial for score in scores.values() for trial in score.trials]
    few = min(n_resamples, FURTHER_RESAMPLES)

    def generator(what: str) -> np.random.Generator:
        return judged.generator(what, variant)

    return VariantSummary(
        variant=variant,
        balanced_accuracy=mean_over_features(own, generator("mean"), level, n_resamples),
        shuffled=mean_over_features(other, judged.generator("mean", variant.control), level, n_resamples),
        difference=paired_difference(values, control_values, generator("difference"), level, n_resamples, n_failed),
        skill=skill(values, control_values, generator("skill"), level, n_resamples, n_failed),
        n_features=len(own),
        n_trials=len(trials),
        failed_trials=count_kinds(t.failure for t in trials if t.failure is not None),
        further=further_metrics(scores, judged.densities, generator, level, few),
        baselines=()
        if variant.is_hidden
        else baselines_of(variant, variant.control, judged.accuracies, generator, level, few),
        above_chance=above_chance(scores),
        above_shuffled=above_shuffled(scores, judged.scores.get(variant.control, {})),
    )


def _other_scores(judged: _Judged) -> tuple[OtherScores, ...]:
    """One row per variant, kind by kind."""
    scores, rows = judged.material.others, list[OtherScores]()
    matched = sorted((v for v in scores if not is_control(v.explainer)), key=reading_order)
    for kind in (*_OTHER_KINDS, "classification"):
        for variant in matched:
            if next(iter(scores[variant].values())).kind == kind:
                controls = scores.get(variant.control, {})
                rows.append(
                    other_scores(variant, scores[variant], controls, judged.generator, judged.level, judged.n_resamples)
                )
    return tuple(rows)


def _agreements(judged: _Judged, n_resamples: int) -> tuple[Agreement, ...]:
    """Between judges, between explainers, and between tests."""
    verdicts, others = _matched(judged.scores), _matched(judged.material.others)
    values = {
        **_matched(judged.accuracies),
        **{v: own_values(of, judged.level) for v, of in others.items()},
    }
    nobody = Variant("", "", "")

    def generator(what: str) -> np.random.Generator:
        return judged.generator(what, nobody)

    return (
        *judge_agreements(verdicts, generator, judged.level, n_resamples),
        *scorer_agreements(values, generator, judged.level, n_resamples),
    )


def _matched(of_variants: Mapping[Variant, V]) -> Mapping[Variant, V]:
    """Without the controls."""
    return {variant: of for variant, of in of_variants.items() if not is_control(variant.explainer)}


def _explainers(material: Material, primary: Variant | None) -> tuple[ExplainerSummary, ...]:
    explanations = material.explanations
    failed = explainer_failures(material.failures)
    names = {e.explainer for e in explanations if not is_control(e.explainer)} | failed.keys()
    first = primary.explainer if primary else ""
    return tuple(
        ExplainerSummary(name, sum(e.explainer == name for e in explanations), count_kinds(failed.get(name, [])))
        for name in sorted(names, key=lambda name: (name != first, name))
    )
