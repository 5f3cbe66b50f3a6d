"""Open what failed for good, so that the next run tries it again (`--retry-failed`).

For when the reason is gone: a key that was refused, a bug that is mended, a server that could not do what was asked; or
for another try with answers that could not be read, which are then asked for anew, and they alone (`asking`).
Features without enough examples stay as they are, because the cache has not changed; what may heal by itself is open
anyhow.
"""

from sae_auto_interp.pipeline.explain_stage import STAGE as EXPLAIN
from sae_auto_interp.pipeline.judged_scorers import score_unit
from sae_auto_interp.pipeline.score_stage import STAGE as SCORE
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types import Score


def reopen_failed(store: ResultStore) -> int:
    """Forget failed explanations and scores, and scores with a failed trial; how many units are open again."""
    failed = [(failure.stage, unit) for unit, failure in store.failures() if failure.stage in (EXPLAIN, SCORE)]
    for stage, unit in failed:
        store.reopen(stage, unit)
    spoilt = [(judge, score) for judge, score in store.scores() if _has_failed_trial(score)]
    for judge, score in spoilt:
        store.reopen_score(SCORE, score_unit(score.scorer, judge, score.explanation_id), score, judge)
    return len(set(failed)) + len(spoilt)


def _has_failed_trial(score: Score) -> bool:
    return bool(score.failures)
