"""What a report knows: frozen values between the results file and the table or page that prints them."""

from collections.abc import Mapping
from dataclasses import dataclass

from sae_auto_interp.metrics.over_features import RunMetric
from sae_auto_interp.report.summary.agreement import Agreement
from sae_auto_interp.report.summary.chosen import Choice, Tried
from sae_auto_interp.report.summary.evidence import EvidenceCounts, FeatureEvidence
from sae_auto_interp.report.summary.spending import SpendingRow
from sae_auto_interp.report.summary.variants import Variant
from sae_auto_interp.types import Estimate, Explanation, Failure, FeatureId, FeatureStats, Usage

QuantileCurve = tuple[tuple[int, Estimate], ...]
"""(quantile, share of right answers), from the strongest windows (0) to the weakest."""
KindCounts = tuple[tuple[str, int], ...]
"""(failure kind, how many), most frequent first."""


@dataclass(frozen=True, slots=True)
class FurtherMetrics:
    """What else a variant's trials say, as means over features."""

    metrics: tuple[tuple[str, RunMetric], ...]
    """(name as shown, mean), in reading order; what no feature has is left out."""
    tpr_by_quantile: tuple[tuple[int, RunMetric], ...]
    """The decile curve: mean share of firing windows found, from the strongest quantile (0) to the weakest."""
    if_all_wrong: Estimate
    """Mean balanced accuracy had every failed trial been wrong."""
    if_all_right: Estimate


@dataclass(frozen=True, slots=True)
class FeatureTests:
    """How many features pass a test, adjusted for there being many (Benjamini-Hochberg)."""

    n_passed: int
    n_tested: int
    n_undefined: int
    """Features on which the test says nothing, such as those whose every trial failed."""
    fdr: float
    """Expected share of false ones among those that passed, at most."""


@dataclass(frozen=True, slots=True)
class BaselineSkill:
    """What a variant is compared with, and how much it gains."""

    name: str
    """shuffled, nearest, lexical, hidden or constant."""
    balanced_accuracy: Estimate
    """Mean over the features that the baseline was scored on."""
    skill: Estimate
    """Share of what there was to gain over it, on the features that both have."""


@dataclass(frozen=True, slots=True)
class VariantSummary:
    """A variant over all its features, beside the same with shuffled explanations."""

    variant: Variant
    balanced_accuracy: RunMetric
    shuffled: RunMetric
    difference: Estimate
    """Paired over features: balanced accuracy with the feature's own explanation minus with another's."""
    skill: Estimate
    """The difference as a share of what there was to gain over the control."""
    n_features: int
    """Features scored, whether or not their balanced accuracy is defined."""
    n_trials: int
    """Trials put to the judge, failed ones included; the control's are not counted."""
    failed_trials: KindCounts
    further: FurtherMetrics
    baselines: tuple[BaselineSkill, ...] = ()
    """Those that the run has; none for a judge that is a baseline itself."""
    above_chance: FeatureTests | None = None
    above_shuffled: FeatureTests | None = None


@dataclass(frozen=True, slots=True)
class OtherScores:
    """A variant whose scores have no balanced accuracy, by the metric of its kind."""

    variant: Variant
    metric: str
    """As shown: AUROC (rankings), accuracy (choices), correlation (simulations)."""
    own: RunMetric
    shuffled: RunMetric | None
    """None where there is no control: nothing was shuffled, or the scorer reads no explanation."""
    difference: Estimate | None
    """Paired over features."""
    chance: float | None
    """What guessing has."""
    n_features: int
    n_trials: int
    failed_trials: KindCounts
    by_quantile: tuple[tuple[int, RunMetric], ...]
    """Means over features, of choices; empty for what has no quantiles of its own."""
    if_all_wrong: Estimate
    """Mean had every failed trial been wrong."""
    if_all_right: Estimate


@dataclass(frozen=True, slots=True)
class ExplainerSummary:
    """How often an explainer gave an explanation, and why not otherwise."""

    name: str
    n_explanations: int
    failed: KindCounts


@dataclass(frozen=True, slots=True)
class FeatureScore:
    """One variant's verdicts on one feature, with intervals over documents."""

    variant: Variant
    balanced_accuracy: Estimate
    tpr: Estimate
    tnr: Estimate
    auroc: Estimate
    precision_in_text: Estimate | None
    """Precision at the feature's window density; None where that was not counted, or not asked about."""
    tpr_by_quantile: QuantileCurve
    shuffled: Estimate | None
    """Balanced accuracy with another feature's explanation; None where that was not scored."""
    if_all_wrong: Estimate
    """Balanced accuracy had every failed trial been wrong."""
    if_all_right: Estimate


@dataclass(frozen=True, slots=True)
class FeatureOther:
    """One variant's ranking, forced choices or simulations of one feature, with intervals over documents."""

    variant: Variant
    metric: str
    own: Estimate
    shuffled: Estimate | None
    chance: float | None
    by_quantile: QuantileCurve
    if_all_wrong: Estimate
    if_all_right: Estimate


@dataclass(frozen=True, slots=True)
class FeatureSummary:
    """Everything about one feature but its examples, which stay in the results file."""

    feature: FeatureId
    evidence: FeatureEvidence | None
    """None where there is no record."""
    explanations: tuple[Explanation, ...]
    """One per explainer, the primary one first; no shuffled ones."""
    scores: tuple[FeatureScore, ...]
    others: tuple[FeatureOther, ...]
    tried: tuple[tuple[str, tuple[Tried, ...]], ...]
    """(explainer, what it chose from), of explainers that choose."""
    failures: tuple[Failure, ...]
    sort_value: float | None
    """Mean balanced accuracy that features are sorted by; None sorts last."""

    @property
    def stats(self) -> FeatureStats | None:
        """How often and how strongly it fires."""
        return None if self.evidence is None else self.evidence.stats


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failures of one kind in one stage."""

    stage: str
    kind: str
    count: int
    samples: tuple[Failure, ...]
    """A few with different messages."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A whole run."""

    info: Mapping[str, str]
    level: float
    """Nominal coverage of every interval."""
    primary: Variant | None
    """Explainer and judge that features are sorted by; its scorer is the first one to be shown."""
    variants: tuple[VariantSummary, ...]
    explainers: tuple[ExplainerSummary, ...]
    features: tuple[FeatureSummary, ...]
    """Best first."""
    failures: tuple[FailureGroup, ...]
    """Most frequent first."""
    usage: Usage
    """What the answers behind these results cost when they were made, whoever paid for them."""
    evidence: EvidenceCounts
    others: tuple[OtherScores, ...] = ()
    """Rankings, forced choices and simulations."""
    agreements: tuple[Agreement, ...] = ()
    choices: tuple[Choice, ...] = ()
    """Results of explainers that choose among candidates."""
    spending: tuple[SpendingRow, ...] = ()
    """What this run paid for, by stage and model."""

    @property
    def primary_scorers(self) -> tuple[str, ...]:
        """The tests that the primary explainer's explanations were put to by the primary judge, in order."""
        if self.primary is None:
            return ()
        whom = (self.primary.explainer, self.primary.judge)
        return tuple(s.variant.scorer for s in self.variants if (s.variant.explainer, s.variant.judge) == whom)

    def primary_scores(self, feature: FeatureSummary) -> tuple[FeatureScore | None, ...]:
        """The feature's score under each of `primary_scorers`."""
        found = {score.variant: score for score in feature.scores}
        if self.primary is None:
            return ()
        explainer, judge = self.primary.explainer, self.primary.judge
        return tuple(found.get(Variant(explainer, scorer, judge)) for scorer in self.primary_scorers)
