"""A run over a network that fails in every way ends by itself, pays for nothing twice, and has the same results.

In short in the suite; with SAE_AUTO_INTERP_SOAK=1 more features, and an outage of 30 s. What counts as paid for is a
completion that the server delivered whole, empty ones included. Of an answer that was cut off on its way, or of which a
gateway kept the body, nobody but the provider knows; the run's spending_log has them as `n_lost`.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import IS_SOAK, N_FEATURES, PrepareRun
from tests.e2e.runs import sae_auto_interp
from tests.e2e.stored import explanations_of, failures_of, is_sound, scores_of, spent_by
from tests.support.chaos_llm import ChaosLlm
from tests.support.llm_server import LlmServer

OUTAGE_SECONDS = 30.0 if IS_SOAK else 2.0
TIMEOUT_SECONDS = 5.0 if IS_SOAK else 2.0


@dataclass(frozen=True)
class Run:
    llm: ChaosLlm
    folder: Path
    said: str
    status: int


def run_against(llm: ChaosLlm, folder: Path, prepare_run: PrepareRun) -> Run:
    with LlmServer(llm) as server:
        client = (
            f"client: {{base_url: '{server.base_url}', max_concurrency: 12, attempts: 12, "
            f"timeout_seconds: {TIMEOUT_SECONDS}}}\n"
        )
        done = sae_auto_interp(*prepare_run(folder, client, "run"), more_environment=own_cache(folder))
    return Run(llm, folder / "run", done.stderr, done.returncode)


def own_cache(folder: Path) -> dict[str, str]:
    return {"SAE_AUTO_INTERP_CACHE": str(folder / "cache")}


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, prepare_run: PrepareRun) -> Run:
    return run_against(ChaosLlm(faults=()), tmp_path_factory.mktemp("calm"), prepare_run)


@pytest.fixture(scope="module")
def chaotic(tmp_path_factory: pytest.TempPathFactory, prepare_run: PrepareRun) -> Run:
    llm = ChaosLlm(seed=1, outage_after=N_FEATURES * 6, outage_seconds=OUTAGE_SECONDS)
    return run_against(llm, tmp_path_factory.mktemp("chaos"), prepare_run)


def test_there_was_chaos_and_the_run_ended_by_itself(calm: Run, chaotic: Run) -> None:
    assert calm.status == chaotic.status == 0, chaotic.said
    assert not calm.llm.met
    assert {"reset", "truncate", "stall", "outage"} <= set(chaotic.llm.met)
    assert {kind[:3] for kind in chaotic.llm.met} >= {"429", "500", "200"}
    assert chaotic.llm.attempts.total() > 1.2 * len(chaotic.llm.attempts)
    assert "does not answer" in chaotic.said
    assert "answers again after" in chaotic.said


def test_every_feature_is_scored_or_has_a_typed_failure(calm: Run, chaotic: Run) -> None:
    own = [f"simple/{e.feature}" for e in explanations_of(calm.folder).values() if e.explainer == "simple"]
    assert len(own) == N_FEATURES
    explained, failed = explanations_of(chaotic.folder), failures_of(chaotic.folder)
    assert {unit for unit in own if unit not in explained} == {unit for unit in failed if unit in own}
    scores = {(scorer, explanation) for _, scorer, explanation, _ in scores_of(chaotic.folder)}
    assert {(scorer, unit) for scorer in ("detection", "fuzzing") for unit in own if unit in explained} <= scores
    rare = failures_of(calm.folder)  # features that fire too rarely for a record
    assert {kind for unit, kind in failed.items() if unit not in rare} <= {"malformed_reply"}, "all else healed"


def test_a_failed_trial_is_no_answer(chaotic: Run) -> None:
    trials = [trial for score in scores_of(chaotic.folder).values() for trial in score.trials]
    failed = [trial for trial in trials if trial.failure is not None]
    assert 0 < len(failed) < len(trials) / 4
    assert {trial.failure.kind for trial in failed if trial.failure} == {"malformed_reply"}
    assert all(trial.prediction is None and trial.confidence is None for trial in failed)
    assert all(trial.prediction is not None for trial in trials if trial.failure is None)


def test_what_succeeded_is_what_it_is_without_faults(calm: Run, chaotic: Run) -> None:
    calm_explanations, calm_scores = explanations_of(calm.folder), scores_of(calm.folder)
    for name, explanation in explanations_of(chaotic.folder).items():
        assert explanation == calm_explanations[name]
    compared = 0
    for key, score in scores_of(chaotic.folder).items():
        for ours, theirs in zip(score.trials, calm_scores[key].trials, strict=True):
            assert (ours.target, ours.source, ours.document) == (theirs.target, theirs.source, theirs.document)
            if ours.failure is None:
                assert ours == theirs
                compared += 1
    assert compared > 100


def test_nothing_is_paid_for_twice(calm: Run, chaotic: Run) -> None:
    for run in (calm, chaotic):
        assert set(run.llm.delivered) == set(run.llm.attempts), "every request was answered in the end"
        assert set(run.llm.delivered.values()) == {1}
        spent = spent_by(run.folder, "explain", "score")
        assert spent.n_paid == run.llm.delivered.total() == len(run.llm.attempts)
    assert spent_by(calm.folder).n_lost == 0
    assert spent_by(chaotic.folder).n_lost >= chaotic.llm.met["stall"] + chaotic.llm.met["truncate"]


def test_the_files_are_sound(chaotic: Run) -> None:
    assert is_sound(chaotic.folder / "results.sqlite")
    assert is_sound(chaotic.folder.parent / "cache" / "responses.sqlite")
