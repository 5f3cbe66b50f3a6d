"""Failures counted: by kind, by explainer, by feature.

A unit of work is named `<explainer>/<feature>` when explaining, and ends in `/<feature>` or is the feature itself in
any other stage; failures of single trials lie in the scores.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from sae_auto_interp.report.summary.values import FailureGroup, KindCounts
from sae_auto_interp.types import Failure, FeatureId, Score

EXPLAIN_STAGE = "explain"
N_SAMPLES = 3


def count_kinds(failures: Iterable[Failure]) -> KindCounts:
    """How many of each kind, most frequent first."""
    return _by_frequency(Counter(failure.kind for failure in failures))


def group_failures(failures: Iterable[tuple[str, Failure]], scores: Iterable[Score]) -> tuple[FailureGroup, ...]:
    """All failures of a run, those of single trials included, with a few messages of each kind."""
    found: dict[tuple[str, str], list[Failure]] = defaultdict(list)
    for _, failure in failures:
        found[failure.stage, failure.kind].append(failure)
    for score in scores:
        for failure in score.failures:
            found[failure.stage, failure.kind].append(failure)
    groups = [FailureGroup(stage, kind, len(of), _samples(of)) for (stage, kind), of in found.items()]
    return tuple(sorted(groups, key=lambda group: (-group.count, group.stage, group.kind)))


def explainer_failures(failures: Iterable[tuple[str, Failure]]) -> dict[str, list[Failure]]:
    """Failures of the explain stage by explainer."""
    found: dict[str, list[Failure]] = defaultdict(list)
    for unit, failure in failures:
        explainer, separator, _ = unit.partition("/")
        if failure.stage == EXPLAIN_STAGE and separator:
            found[explainer].append(failure)
    return dict(found)


def failures_by_feature(
    failures: Iterable[tuple[str, Failure]], features: Iterable[FeatureId]
) -> dict[FeatureId, list[Failure]]:
    """Failures of whole units by the feature that the unit's name ends in."""
    known = {str(feature): feature for feature in features}
    found: dict[FeatureId, list[Failure]] = defaultdict(list)
    for unit, failure in failures:
        parts = unit.split("/")
        tails = ("/".join(parts[start:]) for start in range(len(parts)))
        name = next((tail for tail in tails if tail in known), None)
        if name is not None:
            found[known[name]].append(failure)
    return dict(found)


def _samples(failures: Sequence[Failure]) -> tuple[Failure, ...]:
    """The first few, in the order of their messages, that differ in their message."""
    by_message = {failure.message: failure for failure in reversed(failures)}
    return tuple(by_message[message] for message in sorted(by_message)[:N_SAMPLES])


def _by_frequency(counts: Counter[str]) -> KindCounts:
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
