"""Every registered explainer and every registered scorer goes through features of the demo, in a run of its own kind.

The tables below are all settings that they need; a component that is registered and not in them fails here.
"""

import asyncio
import io
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.config import load_config, parse_config
from sae_auto_interp.pipeline.progress.displays import LineProgress
from sae_auto_interp.pipeline.run import run_pipeline
from sae_auto_interp.pipeline.run_directory import RunDirectory, evidence_settings
from sae_auto_interp.registry import component_names
from sae_auto_interp.results import RESULTS_FILE, ResultStore
from sae_auto_interp.types import Failure, Score

MODEL = {"kind": "tests.support.any_model:AnyModel"}
EMBEDDER = {"name": "tests.support.embedders:BagOfHashes"}
EXPLAINERS: dict[str, dict[str, Any]] = {
    "best_of_n": {"n": 2}, "contrastive": {}, "lexical": {}, "max_activation": {}, "max_activation_logits": {},
    "no_op": {}, "revision": {}, "saebench": {}, "simple": {}, "single_token": {}, "stored": {"path": ""},
    "token_activation_pairs": {},
}  # fmt: skip
SCORERS: dict[str, dict[str, Any]] = {
    "detection": {}, "discrimination": {}, "embedding": {"embedder": EMBEDDER}, "example_embedding":
    {"embedder": EMBEDDER}, "fuzzing": {}, "fuzzing_delphi": {}, "fuzzing_same_window": {}, "generation": {},
    "intruder": {"n_choices": 3, "n_trials": 6}, "intruder_explained": {"n_choices": 3, "n_trials": 6}, "saebench": {},
    "sensitivity": {}, "simulation": {"n_windows": 4}, "simulation_all_at_once": {"n_windows": 4},
    "simulation_token_by_token": {"n_windows": 4}, "surprisal": {},
}  # fmt: skip
KINDS = {
    "ranking": {"embedding", "example_embedding"},
    "choice": {"discrimination", "intruder", "intruder_explained"},
    "simulation": {name for name in SCORERS if name.startswith("simulation")},
}
FEATURES: dict[str, Any] = {
    "n_features": 2, "n_quantiles": 4, "n_train": 12, "n_test": 20, "n_dev": 8, "n_non_activating_train": 12,
    "n_non_activating_test": {"random": 10, "neighbour": 10}, "n_non_activating_dev": 8, "n_logits": 5,
    "min_examples": 40,
}  # fmt: skip


MODULES = ("transformer.h.0.mlp", "transformer.h.1", "transformer.h.2")
N_RECORDS = len(MODULES) * FEATURES["n_features"]


def test_the_tables_name_every_component() -> None:
    assert set(EXPLAINERS) == set(component_names("explainers"))
    assert set(SCORERS) == set(component_names("scorers"))


def ran(demo: RunDirectory, root: Path, explainers: list[Any], scorers: list[Any]) -> ResultStore:
    """The results of a run on the demo's cache, to its end."""
    chosen = {
        "features": FEATURES, "explainers": explainers, "scorers": scorers, "client": MODEL, "prompt_reader": MODEL,
        "responses": {"mode": "off"}, "n_shuffled": 1, "n_hidden": 1,
    }  # fmt: skip
    config = parse_config(load_config(demo.config).model_dump(mode="json") | chosen)
    directory = RunDirectory(root)
    directory.claim(evidence_settings(config))  # with features of its own
    shutil.copytree(demo.features, directory.features)
    shutil.copy(demo.tokens, directory.tokens)
    shutil.copy(demo.data, directory.data)
    with LineProgress(io.StringIO()) as progress:
        asyncio.run(run_pipeline(config, root, progress))
    return ResultStore.open(root / RESULTS_FILE, read_only=True)


def beyond_records(results: ResultStore) -> list[Failure]:
    """What failed, but for features that fire too seldom to have a record."""
    return [failure for _, failure in results.failures() if failure.stage != "records"]


def components(table: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"name": name, **settings} for name, settings in table.items()]


def test_every_explainer_explains_features_of_the_demo(demo: RunDirectory, tmp_path: Path) -> None:
    stored = tmp_path / "stored.jsonl"
    lines = [{"feature": f"{path}:{i}", "explanation": f"words of {i}"} for path in MODULES for i in range(4096)]
    stored.write_text("\n".join(map(json.dumps, lines)))
    explainers = components(EXPLAINERS | {"stored": {"path": str(stored)}})
    with ran(demo, tmp_path / "run", explainers, ["detection"]) as results:
        assert not beyond_records(results)
        texts = {key: found.text for key, found in results.explanations() if not key.startswith("shuffled:")}
    assert Counter(key.partition("/")[0] for key in texts) == dict.fromkeys(EXPLAINERS, N_RECORDS)
    assert all(texts.values())


@pytest.fixture(scope="module")
def scores(demo: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> list[Score]:
    """Of one explainer's explanations, without controls and probes."""
    root = tmp_path_factory.mktemp("scored") / "run"
    with ran(demo, root, ["simple"], components(SCORERS)) as results:
        assert not beyond_records(results)
        found = [score for judge, score in results.scores() if not judge.startswith("hidden:")]
    return [score for score in found if score.explanation_id.startswith("simple/")]


@pytest.mark.parametrize("name", SCORERS)
def test_every_scorer_scores_features_of_the_demo(name: str, scores: list[Score]) -> None:
    found = [score for score in scores if score.scorer == name]
    assert len(found) == N_RECORDS
    for score in found:
        assert score.kind == next((kind for kind, names in KINDS.items() if name in names), "classification")
        assert score.trials or score.choices or score.simulations
        assert {failure.kind for failure in score.failures} <= ({"no_room"} if "same_window" in name else set())


def test_simulations_have_levels_for_every_token(scores: list[Score]) -> None:
    for score in scores:
        if score.kind == "simulation":
            assert [len(t.predicted or ()) for t in score.simulations] == [len(t.true) for t in score.simulations]
            assert len(score.simulations) == 4
