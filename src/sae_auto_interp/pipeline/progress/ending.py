"""What a run ended with: its failures by kind, and which of its explainers and judges got nothing at all.

Read from the store, not from what this process did: a run whose work was all done, and had all failed, says the same
each time. Controls and baselines (shuffled, nearest, hidden, lexical) are there for comparison: one that has nothing
is among the failures, and is no reason to call the run a failed one.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sae_auto_interp.pipeline.explain_stage import STAGE as EXPLAIN, ExplainStage
from sae_auto_interp.pipeline.judged_scorers import JudgedScorer
from sae_auto_interp.pipeline.record_stage import STAGE as RECORDS
from sae_auto_interp.pipeline.score_stage import STAGE as SCORE, ScoreStage, any_answer
from sae_auto_interp.results import ResultStore
from sae_auto_interp.results.failure_kinds import FailureKind, failure_kinds
from sae_auto_interp.types import Failure

_MORE_TEXT = "cache more text (data.n_tokens) or lower features.min_examples"
_REMEDIES = {
    "too_few_examples": "a document is for explaining or for scoring, never for both: give text of more documents (a "
    "directory, a .jsonl file, or data.split_documents, which cuts long ones at blank lines)"
}
"""{kind of failure: what helps}; more text helps against all others."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """What there is to say of a run that went to its end."""

    failures: tuple[FailureKind, ...] = ()
    """Failures of units and of single trials, the most frequent kind first."""
    nothing: tuple[str, ...] = ()
    """A line for each explainer without an explanation, and each scorer and judge without a readable answer."""


def stored_failures(store: ResultStore) -> tuple[FailureKind, ...]:
    """All failures of a run, those of single trials included."""

    def every() -> Iterator[Failure]:
        yield from (failure for _, failure in store.failures())
        yield from store.failed_trials()

    return failure_kinds(every())


def log_failures(failures: Iterable[FailureKind]) -> None:
    """One line per kind in the run's log."""
    for each in failures:
        _log.warning("%s", each.line)


def no_features(store: ResultStore) -> str:
    """Why there is no record at all: the commonest reason that is stored, and what helps."""
    failed = failure_kinds(failure for _, failure in store.failures() if failure.stage == RECORDS)
    if not failed:
        return (
            "no feature fires often enough; cache more text (data.n_tokens), lower features.min_examples, or name "
            "features in features.indices"
        )
    return f"no feature has enough examples ({failed[0].line}); {_REMEDIES.get(failed[0].kind, _MORE_TEXT)}"


def without_result(explain: ExplainStage, score: ScoreStage | None, store: ResultStore) -> tuple[str, ...]:
    """Whose work all came to nothing. An explainer that explained nothing stands for its scorers too."""
    found: list[str] = []
    for name in explain.names:
        if not store.n_explanations(name):
            failed = _of_units(store, EXPLAIN, f"{name}/")
            found.append(f"explainer {name} explained no feature{_reason(failed)}")
        elif score is not None:
            found += _without_answer(score.measures(name), name, store)
    return tuple(found)


def _without_answer(measures: Iterable[JudgedScorer], explainer: str, store: ResultStore) -> Iterator[str]:
    for measure in measures:
        failed: list[Failure] = []
        for each in store.scores_of(explainer, measure.scorer.name, measure.judge_name):
            if any_answer(each):
                break
            failed += each.failures
        else:
            failed += _of_units(store, SCORE, measure.unit(f"{explainer}/"))
            yield (
                f"{measure.scorer.name}, judged by {measure.judge_name}, has no readable answer about what {explainer} "
                f"says{_reason(failed)}"
            )


def _of_units(store: ResultStore, stage: str, prefix: str) -> list[Failure]:
    return [failure for unit, failure in store.failures() if failure.stage == stage and unit.startswith(prefix)]


def _reason(failures: Iterable[Failure]) -> str:
    """The most frequent kind, in parentheses; nothing where there is no failure."""
    kinds = failure_kinds(failures)
    return f" ({kinds[0].line})" if kinds else ""
