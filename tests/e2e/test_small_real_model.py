"""A small real language model from end to end: it explains, judges, writes texts, and is itself a subject.

SmolLM2-135M-Instruct behind llama.cpp, with one thread. What it says makes no sense (as a judge it is at chance), and
sense is not asked of it here: what is asked is that its answers can be read, whoever asks.
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.config import parse_config
from sae_auto_interp.pipeline.progress.displays import make_progress
from sae_auto_interp.pipeline.run import run_pipeline
from sae_auto_interp.results import RESULTS_FILE, ResultStore
from tests.e2e.runs import sae_auto_interp
from tests.support.embedded_gguf import serve_gguf
from tests.support.smollm2 import gguf_path, write_transformers_model

IS_SOAK = os.environ.get("SAE_AUTO_INTERP_SOAK") == "1"
N_EXPLAINED = 20 if IS_SOAK else 2
N_SCORED = 3 if IS_SOAK else 1
LEAST_EXPLAINED = 0.9 * 20 if IS_SOAK else 1
in_soak = pytest.mark.skipif(not IS_SOAK, reason="minutes: make soak")
NAME = "smollm2"
FEW = {"n_examples": 6, "max_tokens": 120}
EXPLAINERS = [
    {"name": "simple", **FEW},
    {"name": "contrastive", "n_activating": 4, "n_non_activating": 4, "max_tokens": 200},
    {"name": "max_activation"},
    {"name": "max_activation_logits"},
    {"name": "saebench", "structured": True, "max_tokens": 120, "n_top": 4, "n_others": 2},
    {"name": "single_token", "n_tokens": 6, "max_tokens": 120},
    {"name": "token_activation_pairs", "structured": True, "max_tokens": 120, "n_examples": 3},
][: None if IS_SOAK else 1]
VERDICTS = [
    {"name": "detection"},
    {"name": "fuzzing"},
    {"name": "fuzzing_same_window"},
    {"name": "fuzzing_delphi"},
    {"name": "intruder", "n_choices": 3, "n_trials": 10},
    {"name": "intruder_explained", "n_choices": 3, "n_trials": 10},
][: None if IS_SOAK else 1]
"""Scorers whose answers a schema holds to their form."""
BEYOND_IT = {
    "saebench": "the list of numbers is asked for as plain text, as SAEBench does",
    "simulation": "it does not copy the tokens that it is to rate",
    "generation": "it writes the same text over and over, which is a failure and rightly so",
    "sensitivity": "its first text never ends",
}
"""Scorer -> why this model's answers cannot be read."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve_gguf(gguf_path(), NAME, n_ctx=4096) as address:
        yield f"{address}/v1"


def settings(base_url: str, **more: Any) -> dict[str, Any]:
    return {
        "model": "embedded:language_model",
        "device": "cpu",
        "autoencoders": ["embedded:sparse_coders/openai"],
        "data": {"n_tokens": 20_000, "ctx_len": 64, "max_chars_per_document": 3_000},
        "preflight": {"enabled": False},
        "n_lexical": 0, "n_hidden": 0, "n_shuffled": 0,
        "features": {
            "window": 16, "n_features": N_EXPLAINED, "n_logits": 5, "min_examples": 10, "n_quantiles": 2,
            "n_train": 6, "n_test": 6, "n_non_activating_train": 6, "n_non_activating_test": 6,
        },
        "explainers": EXPLAINERS,
        "client": {"base_url": base_url, "model": NAME, "max_concurrency": 2, "timeout_seconds": 600},
        "responses": {"mode": "off"},
    } | more  # fmt: skip


def run(root: Path, config: dict[str, Any], until: Any) -> None:
    with make_progress() as progress:
        asyncio.run(run_pipeline(parse_config(config), root, progress, until))


def test_each_explainer_gives_readable_explanations(address: str, tmp_path: Path) -> None:
    run(tmp_path, settings(address), "explain")
    with ResultStore.open(tmp_path / RESULTS_FILE, read_only=True) as store:
        explained = Counter(explanation.explainer for _, explanation in store.explanations())
        failures = store.failures()
    assert {name: n for name, n in explained.items() if n < LEAST_EXPLAINED} == {}, failures
    assert set(explained) == {explainer["name"] for explainer in EXPLAINERS}


def trials_of(address: str, root: Path, scorers: list[dict[str, Any]]) -> tuple[Counter[str], Counter[str], list[str]]:
    """How many trials each scorer has, how many of them failed, and why."""
    config = settings(address, explainers=[{"name": "simple", **FEW}], scorers=scorers)
    config["features"] |= {"n_features": N_SCORED}
    run(root, config, "score")
    with ResultStore.open(root / RESULTS_FILE, read_only=True) as store:
        scores = [score for _, score in store.scores()]
    every = [(score.scorer, t) for score in scores for t in (*score.trials, *score.choices, *score.simulations)]
    failed = [(scorer, trial.failure) for scorer, trial in every if trial.failure is not None]
    n_trials, n_failed = Counter(scorer for scorer, _ in every), Counter(scorer for scorer, _ in failed)
    return n_trials, n_failed, [failure.message for _, failure in failed]


def test_each_scorer_that_asks_for_verdicts_gets_readable_trials(address: str, tmp_path: Path) -> None:
    n_trials, n_failed, why = trials_of(address, tmp_path, VERDICTS)
    assert set(n_trials) == {scorer["name"] for scorer in VERDICTS}
    assert {name: f"{n_failed[name]} of {n}" for name, n in n_trials.items() if n_failed[name] > 0.05 * n} == {}, why


@in_soak
@pytest.mark.parametrize("name", BEYOND_IT)
def test_what_this_model_cannot_do_yet_is_counted(name: str, address: str, tmp_path: Path) -> None:
    """Not hidden: every trial that cannot be read is a failure with its reason."""
    n_trials, n_failed, why = trials_of(address, tmp_path, [{"name": name}])
    assert n_trials[name] > 0
    assert n_failed[name] > 0.05 * n_trials[name], f"it can by now: ask {name} of it beside VERDICTS"
    assert all(why), "each with its reason"


@in_soak
def test_a_context_of_1024_tokens_is_enough_with_fewer_examples(tmp_path: Path) -> None:
    config = settings("", explainers=[{"name": "simple", "max_tokens": 120}])
    config["features"] |= {"n_features": 3, "window": 32, "n_train": 40, "n_test": 10}
    with serve_gguf(gguf_path(), NAME, n_ctx=1024) as address:
        config["client"] |= {"base_url": f"{address}/v1"}
        run(tmp_path, config, "explain")
    with ResultStore.open(tmp_path / RESULTS_FILE, read_only=True) as store:
        explanations = [explanation for _, explanation in store.explanations()]
        assert len(explanations) == 3, store.failures()
    assert all(explanation.n_shown is not None and 0 < explanation.n_shown < 40 for explanation in explanations)


@in_soak
def test_calibrate_measures_it_as_a_judge(address: str) -> None:
    done = sae_auto_interp("calibrate", "--base-url", address, "--model", NAME, "--n-examples", "2", "--json")
    assert done.returncode == 0, done.stderr
    assert NAME in done.stdout
    assert json.loads(done.stdout)


@in_soak
def test_as_a_subject_it_is_checked_and_cached(tmp_path: Path) -> None:
    model = tmp_path / "smollm2"
    write_transformers_model(model)
    run_file = tmp_path / "run.yaml"
    neurons = "{kind: neurons, module_paths: ['layers.10.mlp.down_proj:in'], k: 16}"
    run_file.write_text(
        f"model: {model}\nautoencoders: [{neurons}]\ndevice: cpu\ndata: {{n_tokens: 20000, ctx_len: 128}}\n"
        "explainers: [lexical]\nfeatures: {n_features: 2}\n"
    )
    checked = sae_auto_interp("check", run_file, "--n-tokens", "1000", "--json")
    assert checked.returncode == 0, checked.stderr
    (found,) = json.loads(checked.stdout)
    assert found["module_path"].startswith("model.layers.10.mlp.down_proj")
    cached = sae_auto_interp("cache", run_file, "--out", tmp_path / "run")
    assert cached.returncode == 0, cached.stderr
    (manifest,) = (tmp_path / "run" / "features").glob("*/manifest.json")
    assert json.loads(manifest.read_text())["n_rows"] * 128 >= 20_000
