"""Every preset runs on the embedded model, with the evidence, the questions and the baselines that it promises."""

import asyncio
import io
import json
import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from sae_auto_interp.clients import LimitedClient, ScriptedClient
from sae_auto_interp.config import RunConfig, parse_config
from sae_auto_interp.config.presets import FOLDER, preset_names
from sae_auto_interp.pipeline.clients.open_clients import RunClients
from sae_auto_interp.pipeline.progress.displays import LineProgress
from sae_auto_interp.pipeline.record_stage import open_loader
from sae_auto_interp.pipeline.resolved import resolve
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.stages import explain_and_score
from sae_auto_interp.protocols import PromptReader
from sae_auto_interp.report import summarise
from sae_auto_interp.results import RESULTS_FILE, ResultStore
from sae_auto_interp.types import FeatureRecord, Request, Score
from tests.support.explaining import is_to_explain
from tests.support.prompt_readers import PlacedReader

LEAST: dict[str, Any] = {
    "model": "embedded:language_model",
    "autoencoders": [f"embedded:sparse_coders/{family}" for family in ("openai", "sparsify", "saelens")],
    "client": {"base_url": "http://127.0.0.1:1"},
}
N_MODULES = 3
FEW = {"n_features": 2, "min_examples": 200}
"""Of each module, none of them short of examples; all else is the preset's."""
EVIDENCE = {
    "delphi": (40, 50, 50, 32),
    "paper": (40, 100, 100, 32),
    "saebench": (40, 20, 10, 21),
    "quick": (20, 20, 20, 32),
}
"""Active windows for explaining and for scoring, silent ones for scoring, and their length."""
REQUESTS = {
    "delphi": {"explain": 1, "detection": 20, "fuzzing": 20},
    "paper": {"explain": 1, "detection": 40, "fuzzing": 40},
    "saebench": {"explain": 1, "saebench": 1},
    "quick": {"explain": 1, "detection": 4, "fuzzing": 4},
}
"""Of one feature, without its baselines."""


def answers(request: Request) -> str:
    """In the form that is asked for."""
    question = request.messages[-1].content
    if " tokens: [" in question:
        tokens = json.loads(question.partition(" tokens: ")[2])
        return json.dumps({"tokens": [{"token": t, "level": min(9, len(t))} for t in tokens]})
    if kind_of(request) == "explain":
        text = f"words of {len(question)} letters"
        return f"[EXPLANATION]: {text}\nThis neuron activates on {text}."
    if kind_of(request) == "saebench":
        return "1, 4, 9"
    return json.dumps({"verdicts": [i % 2 for i in range(question.count("\n\nExcerpt "))]})


def kind_of(request: Request) -> str:
    instructions = request.messages[0].content
    if "numbered texts" in instructions:
        return "saebench"
    if is_to_explain(request):
        return "explain"
    return "fuzzing" if "marked" in instructions else "detection"


def levels(text: str) -> Mapping[int, Mapping[str, float]]:
    return {match.start() + 1: {"0": 0.75, "10": 0.25} for match in re.finditer(r"\t\?", text)}


def run(config: RunConfig, demo: RunDirectory, results: Path) -> ScriptedClient:
    client = ScriptedClient(answers)
    limited = LimitedClient(client, max_concurrency=8)
    with ResultStore.open(results) as store, LineProgress(io.StringIO()) as progress:
        store.set_info("explainers", ", ".join(explainer.name for explainer in config.explainers))
        loader, readers = open_loader(resolve(config).records, demo), {PromptReader: PlacedReader(levels)}
        asyncio.run(
            explain_and_score(resolve(config), loader, store, RunClients(limited, limited), progress, readers=readers)
        )
    return client


@pytest.fixture(scope="module")
def done(demo: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The run of a preset: its requests, and the folder of its results."""

    @cache
    def of(name: str) -> tuple[ScriptedClient, Path]:
        folder = tmp_path_factory.mktemp(name)
        given = {"preset": name, "features": FEW} | ({"explainers": ["simple"]} if name == "quick" else {})
        return run(parse_config(LEAST | given), demo, folder / RESULTS_FILE), folder

    return of


def stored(folder: Path) -> tuple[list[FeatureRecord], list[tuple[str, Score]]]:
    with ResultStore.open(folder / RESULTS_FILE, read_only=True) as store:
        return list(store.records()), list(store.scores())


@pytest.mark.parametrize("name", preset_names())
def test_the_evidence_and_the_questions_are_those_of_the_source(name: str, done: Any) -> None:
    client, folder = done(name)
    records, scores = stored(folder)
    assert len(records) == N_MODULES * FEW["n_features"]
    n_train, n_test, n_silent, window = EVIDENCE[name]
    for record in records:
        assert (len(record.train), len(record.test), len(record.non_activating.test)) == (n_train, n_test, n_silent)
        assert {len(e.tokens) for e in (*record.train, *record.test, *record.non_activating.test)} == {window}
    n_times = {kind: 1 if kind == "explain" else 3 for kind in REQUESTS[name]}  # its own, shuffled, hidden
    asked = Counter(kind_of(request) for request in client.requests)
    assert asked == {kind: n * n_times[kind] * len(records) for kind, n in REQUESTS[name].items()}
    assert not [trial for _, score in scores for trial in score.trials if trial.failure is not None]


@pytest.mark.parametrize("name", preset_names())
def test_every_score_stands_beside_every_baseline(name: str, done: Any) -> None:
    variants = [v for v in summarise(done(name)[1], n_resamples=20).variants if v.variant.explainer != "lexical"]
    own = [v for v in variants if not v.variant.judge.startswith("hidden:")]
    assert len(own) == len(REQUESTS[name]) - 1
    assert all({b.name for b in v.baselines} == {"shuffled", "lexical", "hidden", "constant"} for v in own)


def test_the_first_look_needs_no_language_model(demo: RunDirectory, tmp_path: Path) -> None:
    assert not run(parse_config(LEAST | {"preset": "quick", "features": FEW}), demo, tmp_path / RESULTS_FILE).requests


@pytest.mark.parametrize("name", ["delphi", "saebench"])
def test_without_our_baselines_a_preset_asks_what_its_source_asks(
    name: str, demo: RunDirectory, tmp_path: Path
) -> None:
    given = {"preset": name, "features": FEW, "n_shuffled": 0, "n_hidden": 0}
    client = run(parse_config(LEAST | given), demo, tmp_path / RESULTS_FILE)
    asked = Counter(kind_of(request) for request in client.requests)
    assert asked == {kind: n * N_MODULES * FEW["n_features"] for kind, n in REQUESTS[name].items()}


def test_the_papers_further_scorers_run_as_the_preset_says(demo: RunDirectory, tmp_path: Path) -> None:
    """The lines that the preset's comment gives, with other models behind them."""
    comment = (FOLDER / "paper.yaml").read_text(encoding="utf-8")
    given = yaml.safe_load("\n".join(line[4:] for line in comment.splitlines() if line.startswith("#   ")))
    assert given["scorers"][-1]["embedder"]["name"] == "sentence_transformers"
    given["scorers"][-1]["embedder"] = "tests.support.embedders:BagOfHashes"
    config = parse_config(LEAST | {"preset": "paper", "features": {"n_features": 1}, "n_shuffled": 0} | given)
    run(config, demo, tmp_path / RESULTS_FILE)
    found = {score.scorer: score for _, score in stored(tmp_path)[1] if score.explanation_id.startswith("simple/")}
    assert set(found) == {
        "detection", "fuzzing_delphi", "simulation_all_at_once", "simulation", "surprisal", "embedding",
    }  # fmt: skip
    for score in found.values():
        assert len(score.trials or score.simulations) == (100 if "simulation" in score.scorer else 200), score.scorer
        assert not score.failures
