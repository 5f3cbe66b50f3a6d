"""What a run has stored, for comparing runs and for counting."""

import sqlite3
from contextlib import closing
from pathlib import Path

from sae_auto_interp.results import RESULTS_FILE, ResultStore
from sae_auto_interp.types import Explanation, Score, Trial
from sae_auto_interp.types.spending import NOTHING_SPENT, Spent

ScoreKey = tuple[str, str, str, str]


def explanations_of(run_dir: Path) -> dict[str, Explanation]:
    """Explanations by id, controls included."""
    with ResultStore.open(run_dir / RESULTS_FILE, read_only=True) as store:
        return dict(store.explanations())


def scores_of(run_dir: Path) -> dict[ScoreKey, Score]:
    """Scores by judge, scorer, explanation and feature."""
    with ResultStore.open(run_dir / RESULTS_FILE, read_only=True) as store:
        return {(judge, s.scorer, s.explanation_id, str(s.feature)): s for judge, s in store.scores()}


def failures_of(run_dir: Path) -> dict[str, str]:
    """{unit: kind}."""
    with ResultStore.open(run_dir / RESULTS_FILE, read_only=True) as store:
        return {unit: failure.kind for unit, failure in store.failures()}


def spent_by(run_dir: Path, *stages: str) -> Spent:
    """All that a run has spent, or in these stages alone."""
    with ResultStore.open(run_dir / RESULTS_FILE, read_only=True) as store:
        spending = store.spending()
    return sum((spent for account, spent in spending.items() if not stages or account.stage in stages), NOTHING_SPENT)


def trials_of(run_dir: Path) -> list[Trial]:
    return [trial for score in scores_of(run_dir).values() for trial in score.trials]


def is_sound(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with a file."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
