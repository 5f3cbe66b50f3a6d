"""The control with the most similar feature's explanation: whose it is, and that no interruption changes it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from sae_auto_interp.autoencoders.families import openai
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights
from sae_auto_interp.cache.layout import MANIFEST, write_text
from sae_auto_interp.cache.reader import read_manifest
from sae_auto_interp.config import RunConfig
from sae_auto_interp.errors import InputError, ServerError
from sae_auto_interp.models.identity import weights_sha256
from sae_auto_interp.pipeline.controls.nearest_control import NearestFeatures
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types import FeatureId, Request
from tests.pipeline.small_runs import (
    MODULES,
    WIDTH,
    answers,
    configuration,
    contents,
    loader_of,
    run,
    write_small_cache,
)
from tests.support.explaining import is_to_explain

CHOSEN = (1, 2, 4, 5, 7, 8)
WITHOUT_DIRECTION = 5
D_MODEL = 6
WITH_WEIGHTS, WITHOUT_WEIGHTS = MODULES
SCORERS = ("detection", "fuzzing")


def decoder() -> np.ndarray:
    """Rows of every length; features that the run does not have are like those that it has, one has no direction."""
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(WIDTH, D_MODEL))
    for index in (3, 6, 9, 10, 11):
        rows[index] = rows[CHOSEN[index % len(CHOSEN)]] + 0.01 * rng.normal(size=D_MODEL)
    rows *= rng.uniform(0.1, 10, size=(WIDTH, 1))
    rows[WITHOUT_DIRECTION] = 0
    return rows.astype(np.float32)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The first module's cache names weights, which are there; the second's says nothing of its coder."""
    made = write_small_cache(tmp_path_factory.mktemp("run"))
    file = made.root / "coders" / "1.pt"
    square = torch.ones(WIDTH, D_MODEL)
    openai.save(file, CoderWeights(square, square[:, 0], torch.from_numpy(decoder()), square[0]), 2)
    folder = made.features / WITH_WEIGHTS
    named = replace(read_manifest(folder), autoencoder="openai:1.pt", weights_sha256=weights_sha256(openai.read(file)))
    write_text(folder / MANIFEST, named.to_json())
    made.config.write_text(yaml.safe_dump({"model": "nowhere", "autoencoders": [str(file.parent)]}))
    return made


def nearest_by_hand(directory: RunDirectory) -> dict[FeatureId, FeatureId]:
    """Cosines by numpy for the first module, sets of positions for the second."""
    rows = decoder().astype(np.float64)
    with np.errstate(invalid="ignore"):
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    reader = loader_of(directory, configured()).dataset.readers[WITHOUT_WEIGHTS]
    fires = {index: set(reader.entries(index).locations.tolist()) for index in CHOSEN}

    def likeness(module: str, a: int, b: int) -> float:
        if module == WITH_WEIGHTS:
            return float(unit[a] @ unit[b])
        return len(fires[a] & fires[b]) / len(fires[a] | fires[b])

    with_direction = [index for index in CHOSEN if index != WITHOUT_DIRECTION]
    return {
        FeatureId(module, a): FeatureId(
            module, max((b for b in indices if b != a), key=lambda b: likeness(module, a, b))
        )
        for module, indices in ((WITH_WEIGHTS, with_direction), (WITHOUT_WEIGHTS, CHOSEN))
        for a in indices
    }  # fmt: skip


def configured(limit: int = 7, **more: Any) -> RunConfig:
    features = {"indices": {module: list(CHOSEN) for module in MODULES}}
    settings: dict[str, Any] = {"n_shuffled": 0, "n_hidden": 0, "n_nearest": None}
    return configuration(features, limit, **(settings | more))


def run_of(directory: RunDirectory, results: Path, script: Any = answers, **settings: Any) -> tuple[list[Request], str]:
    config = configured(**settings)
    loader = loader_of(directory, config)
    client, said = run(config, loader, results, script, nearest=NearestFeatures(loader.dataset, directory))
    return client.requests, said


@dataclass(frozen=True)
class Whole:
    stored: Mapping[str, Any]
    n_requests: int
    n_explanations: int
    said: str


@pytest.fixture(scope="module")
def whole(directory: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """What one request after another gives."""
    results = tmp_path_factory.mktemp("alone") / "results.sqlite"
    requests, said = run_of(directory, results, limit=1)
    return Whole(contents(results), len(requests), sum(is_to_explain(request) for request in requests), said)


def texts_of(stored: Mapping[str, Any]) -> dict[str, str]:
    return {name: json.loads(content)["text"] for _, _, name, content in stored["explanations"]}


def test_the_explanation_is_that_of_the_nearest_feature_of_the_run(directory: RunDirectory, whole: Whole) -> None:
    by_hand, said = nearest_by_hand(directory), texts_of(whole.stored)
    explained = [(name, a, b) for name in ("simple", "lexical") for a, b in by_hand.items()
                 if f"{name}/{a}" in said and f"{name}/{b}" in said]  # fmt: skip
    controls = {name: text for name, text in said.items() if name.startswith("nearest:")}
    assert controls == {f"nearest:{name}/{a}": said[f"{name}/{b}"] for name, a, b in explained}
    scored = {str(row[2]) for row in whole.stored["scores"] if "nearest:" in str(row[2])}
    assert scored == set(controls)
    assert {a.module_path for _, a, _ in explained} == set(MODULES)


def test_only_features_of_the_run_are_compared(directory: RunDirectory) -> None:
    """Of the whole width others would be nearer."""
    found = NearestFeatures(loader_of(directory, configured()).dataset, directory)
    everyone = [FeatureId(WITH_WEIGHTS, index) for index in range(WIDTH)]
    chosen = [FeatureId(WITH_WEIGHTS, index) for index in CHOSEN]
    assert set(found.nearest(everyone, everyone).values()) - set(chosen)
    assert found.nearest(chosen, chosen) == found.nearest(chosen[::-1], chosen[::-1])
    assert found.nearest(chosen[:2], chosen).items() <= found.nearest(chosen, chosen).items()
    assert found.nearest([], chosen) == {}


def test_why_a_feature_has_no_control_is_kept(directory: RunDirectory, whole: Whole) -> None:
    by_hand, said = nearest_by_hand(directory), texts_of(whole.stored)
    expected = set[tuple[str, str]]()
    for name in ("simple", "lexical"):
        for feature in (FeatureId(module, index) for module in MODULES for index in CHOSEN):
            other = by_hand.get(feature)
            kind = "no_nearest_feature" if other is None else "nearest_not_explained"
            if f"{name}/{feature}" in said and f"nearest:{name}/{feature}" not in said:
                judge = "llm:scripted" if name == "simple" else "lexical"
                expected |= {(f"{scorer}/{judge}/nearest:{name}/{feature}", kind) for scorer in SCORERS}
    found = {(unit, json.loads(content)["kind"]) for unit, content in whole.stored["failures"]}
    assert {(unit, kind) for unit, kind in found if "nearest" in kind} == expected
    assert {kind for _, kind in expected} == {"no_nearest_feature", "nearest_not_explained"}


@pytest.mark.parametrize("limit", [7, 100])
def test_concurrency_changes_nothing(limit: int, directory: RunDirectory, whole: Whole, tmp_path: Path) -> None:
    run_of(directory, tmp_path / "results.sqlite", limit=limit)
    assert contents(tmp_path / "results.sqlite") == whole.stored


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.8, 0.97])
def test_an_interruption_changes_nothing(share: float, directory: RunDirectory, whole: Whole, tmp_path: Path) -> None:
    """The later ones come while the controls are scored."""
    results, left = tmp_path / "results.sqlite", int(share * whole.n_requests)

    def breaks(request: Request) -> str:
        nonlocal left
        left -= 1
        if left < 0:
            raise InputError("as if the process had ended here")
        return answers(request)

    with pytest.raises(InputError, match="as if"):
        run_of(directory, results, breaks, limit=3)
    assert ("nearest:" in str(contents(results)["explanations"])) == (share > 0.5)
    run_of(directory, results)
    assert contents(results) == whole.stored
    again, _ = run_of(directory, results)
    assert not [request for request in again if not is_to_explain(request)]


def test_a_control_whose_explanation_heals_is_scored_then(
    directory: RunDirectory, whole: Whole, tmp_path: Path
) -> None:
    results = tmp_path / "results.sqlite"

    def away(request: Request) -> Any:
        is_hit = is_to_explain(request) and hash(request.messages) % 3 == 0
        return ServerError("out for lunch") if is_hit else answers(request)

    run_of(directory, results, away)
    run_of(directory, results)
    assert contents(results) == whole.stored


@pytest.mark.parametrize(("n", "n_of_each_module"), [(0, 0), (1, 1), (None, len(CHOSEN))])
def test_so_many_controls_are_announced(
    n: int | None, n_of_each_module: int, directory: RunDirectory, tmp_path: Path
) -> None:
    _, said = run_of(directory, tmp_path / "results.sqlite", explainers=["lexical"], n_nearest=n)
    own = len(MODULES) * len(CHOSEN)
    assert f"score: {len(SCORERS) * (own + len(MODULES) * n_of_each_module)} scores" in said
    stored = texts_of(contents(tmp_path / "results.sqlite"))
    without = n is None  # one feature that is like no other
    assert sum(name.startswith("nearest:") for name in stored) == len(MODULES) * n_of_each_module - without


def test_a_module_with_one_feature_has_no_control(directory: RunDirectory, tmp_path: Path) -> None:
    config = configuration({"indices": {WITH_WEIGHTS: [1]}}, n_nearest=None, explainers=["lexical"])
    loader = loader_of(directory, config)
    run(config, loader, tmp_path / "one.sqlite", nearest=NearestFeatures(loader.dataset, directory))
    with ResultStore.open(tmp_path / "one.sqlite", read_only=True) as store:
        assert [name for name, _ in store.explanations()] == [f"lexical/{WITH_WEIGHTS}:1"]
        assert not [failure for _, failure in store.failures() if failure.stage == "score"]


def test_weights_that_are_gone_are_missed_before_anything_is_asked(directory: RunDirectory, tmp_path: Path) -> None:
    moved = RunDirectory(tmp_path)
    moved.config.write_text(yaml.safe_dump({"model": "nowhere", "autoencoders": [str(tmp_path / "coders")]}))
    with pytest.raises(InputError, match=r"has no openai autoencoder '1\.pt'"):
        NearestFeatures(loader_of(directory, configured()).dataset, moved)
