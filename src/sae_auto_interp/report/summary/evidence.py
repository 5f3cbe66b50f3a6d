"""What is known of the features beside their scores: how often they fire, labels, and what there was too little of.

In: a run's records and failures. Out: what a feature's page shows of it, and how many features of the run have it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sae_auto_interp.metrics import measured_density
from sae_auto_interp.types import (
    Estimate,
    Failure,
    FeatureProfile,
    FeatureRecord,
    FeatureStats,
    Shortage,
    TokenLogits,
)

RECORD_STAGE = "records"


@dataclass(frozen=True, slots=True)
class FeatureEvidence:
    """A record without its examples, which stay in the results file."""

    stats: FeatureStats
    density: Estimate
    """Share of text tokens on which it fires."""
    profile: FeatureProfile | None
    logits: TokenLogits | None
    shortages: tuple[Shortage, ...]


@dataclass(frozen=True, slots=True)
class ShortageCount:
    """Features that had fewer examples of a kind than were asked for."""

    pool: str
    source: str
    n_features: int
    n_without: int
    """Features among them that had none at all."""
    n_wanted: int
    """Over these features."""
    n_found: int


@dataclass(frozen=True, slots=True)
class EvidenceCounts:
    """The run's features by what is known of them."""

    n_records: int
    labels: tuple[tuple[str, int], ...]
    """(label, features with it), most frequent first; a feature may have several."""
    n_profiled: int
    """Features that were looked at for labels."""
    n_with_logits: int
    shortages: tuple[ShortageCount, ...]
    skipped: tuple[tuple[str, int], ...]
    """(kind, features tried that have no record for this reason), most frequent first."""


def evidence_of(record: FeatureRecord, level: float) -> FeatureEvidence:
    """What the report keeps of a record."""
    density = measured_density(record.stats, level)
    return FeatureEvidence(record.stats, density, record.profile, record.logits, record.shortages)


def count_evidence(evidence: Iterable[FeatureEvidence], failures: Iterable[tuple[str, Failure]]) -> EvidenceCounts:
    """Over the features of a run."""
    found = list(evidence)
    profiles = [each.profile for each in found if each.profile is not None]
    labels = Counter(label for profile in profiles for label in profile.labels)
    skipped = Counter(failure.kind for _, failure in failures if failure.stage == RECORD_STAGE)
    return EvidenceCounts(
        n_records=len(found),
        labels=_by_frequency(labels),
        n_profiled=len(profiles),
        n_with_logits=sum(each.logits is not None for each in found),
        shortages=_shortages([each.shortages for each in found]),
        skipped=_by_frequency(skipped),
    )


def _shortages(of_features: Sequence[tuple[Shortage, ...]]) -> tuple[ShortageCount, ...]:
    grouped: dict[tuple[str, str], list[Shortage]] = defaultdict(list)
    for shortages in of_features:
        for shortage in shortages:
            grouped[shortage.pool, shortage.source].append(shortage)
    return tuple(
        ShortageCount(
            pool,
            source,
            len(of),
            sum(s.found == 0 for s in of),
            sum(s.wanted for s in of),
            sum(s.found for s in of),
        )
        for (pool, source), of in sorted(grouped.items())
    )


def _by_frequency(counts: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
