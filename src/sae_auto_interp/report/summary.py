"""A results file -> `RunSummary`: every number that a table or page of the run prints.

Beside each variant stands its shuffled control: the same features and the same trials, judged with the explanation
of another feature (explainer `shuffled:<explainer>`). What an explanation is worth is the paired difference.

Features are sorted by the mean of detection and fuzzing balanced accuracy of the primary explainer and judge: a
language model where there is one, else the lexical one. A feature that lacks one of the two comes last, since a
mean of fewer tests is not comparable. That mean only sorts; nothing prints it.
"""

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sae_auto_interp.metrics import (
    auroc,
    balanced_accuracy,
    mean_over_features,
    paired_difference,
    precision_at_density,
    skill,
    tnr,
    tpr,
    tpr_by_quantile,
)
from sae_auto_interp.metrics.bootstrap import DEFAULT_RESAMPLES
from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL
from sae_auto_interp.report.baselines import HIDDEN_PREFIX, LEXICAL, baselines_of
from sae_auto_interp.report.failures import count_kinds, explainer_failures, failures_by_feature, group_failures
from sae_auto_interp.report.feature_tests import above_chance, above_shuffled
from sae_auto_interp.report.further import FURTHER_RESAMPLES, WINDOW_SCORERS, further_metrics
from sae_auto_interp.report.other_scores import HEADLINES, other_scores
from sae_auto_interp.report.spending import spending_rows
from sae_auto_interp.report.values import (
    ExplainerSummary,
    FeatureScore,
    FeatureSummary,
    OtherScores,
    RunSummary,
    Variant,
    VariantSummary,
)
from sae_auto_interp.results import RESULTS_FILE, ResultStore
from sae_auto_interp.types import Estimate, Explanation, Failure, FeatureId, FeatureStats, Score, ScoreKind, Usage

CONTROL_PREFIX = "shuffled:"
BASELINES = (LEXICAL, "no_op")
HEADLINE_SCORERS = ("detection", "fuzzing")

ScoresByVariant = Mapping[Variant, Mapping[FeatureId, Score]]


@dataclass(frozen=True, slots=True)
class _Judged:
    """All classification scores of the run, controls included, with their balanced accuracies."""

    stats: Mapping[FeatureId, FeatureStats]
    densities: Mapping[FeatureId, float]
    """Share of windows in which each feature fires, where that was counted."""
    scores: ScoresByVariant
    accuracies: Mapping[Variant, Mapping[FeatureId, Estimate]]
    level: float

    @property
    def matched(self) -> list[Variant]:
        """The variants that are no controls, in reading order."""
        return sorted((v for v in self.scores if not is_control(v.explainer)), key=reading_order)


def summarise(run_dir: Path, level: float = DEFAULT_LEVEL, n_resamples: int = DEFAULT_RESAMPLES) -> RunSummary:
    """Summarise the run in `run_dir`, also while it is still going on."""
    with ResultStore.open(run_dir / RESULTS_FILE, read_only=True) as store:
        return summarise_store(store, level, n_resamples)


def summarise_store(
    store: ResultStore, level: float = DEFAULT_LEVEL, n_resamples: int = DEFAULT_RESAMPLES
) -> RunSummary:
    """Summarise an open store."""
    stored, failures, info = store.explanations(), store.failures(), store.info()
    explanations = [explanation for _, explanation in stored]
    explainer_of = {name: e.explainer for name, e in stored}
    every_score = list(store.scores())
    scores = scores_by_variant(every_score, explainer_of)
    accuracies = {v: {f: balanced_accuracy(s, level) for f, s in of.items()} for v, of in scores.items()}
    stats = {record.feature: record.stats for record in store.records()}
    densities = {f: s.n_active_windows / s.n_windows for f, s in stats.items() if s.n_windows > 0}
    judged = _Judged(stats, densities, scores, accuracies, level)
    primary = primary_variant(judged.matched, [e.explainer for e in explanations], run_order(info))
    return RunSummary(
        info=info,
        level=level,
        primary=primary,
        variants=tuple(_variant_summary(v, judged, run_seed(info), n_resamples) for v in judged.matched),
        explainers=_explainers(explanations, failures, primary),
        features=_features(explanations, failures, judged, primary),
        failures=group_failures(failures, (score for _, score in every_score)),
        usage=sum((*(e.usage for e in explanations), *(score.usage for _, score in every_score)), Usage()),
        spending=spending_rows(store.spending()),
        others=_other_scores(every_score, explainer_of, run_seed(info), level, n_resamples),
    )


def is_control(explainer: str) -> bool:
    """Whether this is a shuffled control and no explainer of its own."""
    return explainer.startswith(CONTROL_PREFIX)


def scores_by_variant(
    scores: Iterable[tuple[str, Score]],
    explainer_of: Mapping[str, str],
    kinds: Sequence[ScoreKind] = ("classification",),
) -> ScoresByVariant:
    """Scores of some kinds by variant and feature; an unknown explanation is attributed by the form of its id."""
    found: dict[Variant, dict[FeatureId, Score]] = defaultdict(dict)
    for judge, score in scores:
        if score.kind in kinds:
            by_form = score.explanation_id.removesuffix(f"/{score.feature}")
            explainer = explainer_of.get(score.explanation_id, by_form)
            found[Variant(explainer, score.scorer, judge)][score.feature] = score
    return found


def reading_order(variant: Variant) -> tuple[bool, str, str, bool, str]:
    """Sort key: language models before the lexical baseline, detection before fuzzing."""
    is_lexical = variant.explainer == LEXICAL
    return is_lexical, variant.explainer, variant.judge, variant.scorer not in HEADLINE_SCORERS, variant.scorer


def primary_variant(matched: list[Variant], explainers: list[str], order: Sequence[str] = ()) -> Variant | None:
    """The first variant of the first explainer that is no baseline, and of its first judge that is none.

    `order` is that of the run file; explainers that it does not name come after, by their names.
    """
    names = {v.explainer for v in matched} or {name for name in explainers if not is_control(name)}
    if not names:
        return None
    place = {name: i for i, name in enumerate(order)}
    explainer = min(names, key=lambda name: (name in BASELINES, place.get(name, len(place)), name))
    own = [v for v in matched if v.explainer == explainer]
    if not own:
        return Variant(explainer, "", "")
    judge = min({v.judge for v in own}, key=_judge_order)
    return next(v for v in own if v.judge == judge)


def _judge_order(judge: str) -> tuple[bool, bool, str]:
    """Sort key: language models first, then other models, then what only guards against mistakes."""
    is_baseline = judge == LEXICAL or judge.startswith(HIDDEN_PREFIX)
    return is_baseline, not judge.startswith("llm:"), judge


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


def _variant_summary(variant: Variant, judged: _Judged, seed: int, n_resamples: int) -> VariantSummary:
    control, level = _control_of(variant), judged.level
    own, other = judged.accuracies[variant], judged.accuracies.get(control, {})
    n_failed = sum(e.n_failed for e in (*own.values(), *other.values()))
    values, control_values = _defined(own), _defined(other)
    scores = judged.scores[variant]
    trials = [trial for score in scores.values() for trial in score.trials]

    def generator(what: str) -> np.random.Generator:
        return report_generator(seed, what, variant)

    is_probe = variant.judge.startswith(HIDDEN_PREFIX)
    return VariantSummary(
        variant=variant,
        balanced_accuracy=mean_over_features(own, generator("mean"), level, n_resamples),
        shuffled=mean_over_features(other, report_generator(seed, "mean", control), level, n_resamples),
        difference=paired_difference(values, control_values, generator("difference"), level, n_resamples, n_failed),
        skill=skill(values, control_values, generator("skill"), level, n_resamples, n_failed),
        n_features=len(own),
        n_trials=len(trials),
        failed_trials=count_kinds(t.failure for t in trials if t.failure is not None),
        further=further_metrics(scores, judged.densities, generator, level, min(n_resamples, FURTHER_RESAMPLES)),
        baselines=()
        if is_probe
        else baselines_of(variant, control, judged.accuracies, generator, level, min(n_resamples, FURTHER_RESAMPLES)),
        above_chance=above_chance(scores),
        above_shuffled=above_shuffled(scores, judged.scores.get(control, {})),
    )


def _other_scores(
    scores: Sequence[tuple[str, Score]], explainer_of: Mapping[str, str], seed: int, level: float, n_resamples: int
) -> tuple[OtherScores, ...]:
    """One row per variant, kind by kind."""

    def generator(what: str, variant: Variant) -> np.random.Generator:
        return report_generator(seed, what, variant)

    rows: list[OtherScores] = []
    for kind in HEADLINES:
        found = scores_by_variant(scores, explainer_of, (kind,))
        for variant in sorted((v for v in found if not is_control(v.explainer)), key=reading_order):
            controls = found.get(_control_of(variant), {})
            rows.append(other_scores(variant, found[variant], controls, generator, level, n_resamples))
    return tuple(rows)


def _control_of(variant: Variant) -> Variant:
    return Variant(CONTROL_PREFIX + variant.explainer, variant.scorer, variant.judge)


def _defined(estimates: Mapping[FeatureId, Estimate]) -> dict[FeatureId, float]:
    return {feature: e.value for feature, e in estimates.items() if e.value is not None}


def _explainers(
    explanations: list[Explanation], failures: list[tuple[str, Failure]], primary: Variant | None
) -> tuple[ExplainerSummary, ...]:
    failed = explainer_failures(failures)
    names = {e.explainer for e in explanations if not is_control(e.explainer)} | failed.keys()
    first = primary.explainer if primary else ""
    return tuple(
        ExplainerSummary(name, sum(e.explainer == name for e in explanations), count_kinds(failed.get(name, [])))
        for name in sorted(names, key=lambda name: (name != first, name))
    )


def _features(
    explanations: list[Explanation],
    failures: list[tuple[str, Failure]],
    judged: _Judged,
    primary: Variant | None,
) -> tuple[FeatureSummary, ...]:
    """Every feature that the run knows anything about, best first."""
    stats = judged.stats
    explained: dict[FeatureId, list[Explanation]] = defaultdict(list)
    for explanation in explanations:
        if not is_control(explanation.explainer):
            explained[explanation.feature].append(explanation)
    scored = {feature for of in judged.scores.values() for feature in of}
    features = sorted(stats.keys() | explained.keys() | scored)
    failed = failures_by_feature(failures, features)
    first = primary.explainer if primary else ""
    summaries = [
        FeatureSummary(
            feature=feature,
            stats=stats.get(feature),
            explanations=tuple(sorted(explained.get(feature, []), key=lambda e: (e.explainer != first, e.explainer))),
            scores=_feature_scores(feature, judged),
            failures=tuple(failed.get(feature, ())),
            sort_value=_sort_value(feature, judged, primary),
        )
        for feature in features
    ]
    return tuple(sorted(summaries, key=lambda s: (s.sort_value is None, -(s.sort_value or 0.0), s.feature)))


def _feature_scores(feature: FeatureId, judged: _Judged) -> tuple[FeatureScore, ...]:
    return tuple(
        _feature_score(feature, judged.scores[variant][feature], variant, judged)
        for variant in judged.matched
        if feature in judged.scores[variant]
    )


def _feature_score(feature: FeatureId, score: Score, variant: Variant, judged: _Judged) -> FeatureScore:
    return FeatureScore(
        variant=variant,
        balanced_accuracy=judged.accuracies[variant][feature],
        tpr=tpr(score, judged.level),
        tnr=tnr(score, judged.level),
        auroc=auroc(score, judged.level),
        precision_in_text=_precision_in_text(score, judged),
        tpr_by_quantile=tuple(tpr_by_quantile(score, judged.level).items()),
        shuffled=judged.accuracies.get(_control_of(variant), {}).get(feature),
    )


def _precision_in_text(score: Score, judged: _Judged) -> Estimate | None:
    density = judged.densities.get(score.feature)
    return (
        None
        if density is None or score.scorer not in WINDOW_SCORERS
        else precision_at_density(score, density, judged.level)
    )


def _sort_value(feature: FeatureId, judged: _Judged, primary: Variant | None) -> float | None:
    """Mean over the primary explainer's headline scorers, or over all where it has neither of them."""
    if primary is None:
        return None
    own = [v for v in judged.matched if (v.explainer, v.judge) == (primary.explainer, primary.judge)]
    headline = [v for v in own if v.scorer in HEADLINE_SCORERS] or own
    found = [judged.accuracies[v][feature].value for v in headline if feature in judged.accuracies[v]]
    values = [value for value in found if value is not None]
    return sum(values) / len(values) if values and len(values) == len(headline) else None
