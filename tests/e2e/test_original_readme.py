"""The original library's README is a program: its calls, in its order, with only paths and sizes changed.

What the README leaves open ("# constructor", "your preferred client") is filled in with what it describes below.
"""

import asyncio
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file

from sae_auto_interp.autoencoders import load_oai_autoencoders
from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.explainers import SimpleExplainer
from sae_auto_interp.features import (
    FeatureCache,
    FeatureConfig,
    FeatureDataset,
    FeatureLoader,
    max_activation_pooling_sampler,
)
from sae_auto_interp.judges import LlmJudge
from sae_auto_interp.scorers import FuzzingScorer, GenerationScorer, RecallScorer, SimulationScorer
from sae_auto_interp.types import Explanation

ASSETS = Path(__file__).parents[2] / "src" / "sae_auto_interp" / "assets"
LANGUAGE_MODEL = str(ASSETS / "language_model")
OPENAI_CODERS = ASSETS / "sparse_coders" / "openai"
LAYERS = [1]
N_ROWS = 96


def load(kind: str) -> Any:
    """The README's constructor call; `LanguageModel` is deprecated upstream, and must work all the same."""
    import nnsight

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "LanguageModel":
            return nnsight.LanguageModel(LANGUAGE_MODEL, device_map="auto", dispatch=True)
        return nnsight.TransformersModel(LANGUAGE_MODEL, task="text-generation", device_map="auto", dispatch=True)


def some_tokens(model: Any) -> torch.Tensor:
    from pydoc_data.topics import topics

    ids = model.tokenizer.encode("\n".join(topics.values()), add_special_tokens=False, verbose=False)
    return torch.tensor(ids[: N_ROWS * 64]).reshape(N_ROWS, 64)


@pytest.mark.parametrize("kind", ["LanguageModel", "TransformersModel"])
def test_the_readme_from_loading_to_scores(kind: str, tmp_path: Path) -> None:
    # Loading autoencoders
    model = load(kind)
    submodule_dict = load_oai_autoencoders(model, LAYERS, OPENAI_CODERS)
    assert list(submodule_dict) == ["transformer.h.1"]
    tokens = some_tokens(model)
    with torch.inference_mode(), model.trace(tokens[:2]):
        dense = submodule_dict["transformer.h.1"].ae.output.save()
    assert tuple(dense.shape) == (2, 64, 2048)
    assert 0 < int((dense > 0).sum(-1).max()) <= 32

    # Caching
    module_filter = {"transformer.h.1": torch.arange(1024)}
    cache = FeatureCache(model, submodule_dict, batch_size=16, filters=module_filter)
    cache.run(n_tokens=5_000, tokens=tokens)
    raw_features = tmp_path / "raw_features"
    cache.save_splits(n_splits=4, save_dir=raw_features)
    names = ["0_511", "512_1023", "1024_1535", "1536_2047"]
    shards = [load_file(raw_features / "transformer.h.1" / f"{name}.safetensors") for name in names]
    assert all({"activations", "locations"} <= set(shard) for shard in shards)
    assert [len(shard["activations"]) > 0 for shard in shards] == [True, True, False, False]

    # Loading feature records
    cfg = FeatureConfig(n_train=10, n_test=10, min_examples=20)
    dataset = FeatureDataset(raw_dir=raw_features, cfg=cfg)
    loader = FeatureLoader(tokens=tokens[:78], dataset=dataset, constructor=max_activation_pooling_sampler)
    record = next(iter(loader))
    assert "".join(record.train[0].str_tokens) == model.tokenizer.decode(record.train[0].tokens.tolist())

    # Generating and scoring explanations
    client = ScriptedClient(["[EXPLANATION]: a word about Python"])
    explanation = asyncio.run(SimpleExplainer(client, tokenizer=model.tokenizer).explain(record))
    assert isinstance(explanation, Explanation)
    judge = LlmJudge(client=ScriptedClient(lambda request: '{"verdicts": [' + _ones(request) + "]}"))
    for scorer in (RecallScorer(judge=judge), FuzzingScorer(judge=judge)):
        score = asyncio.run(scorer.score(record, explanation, "simple/transformer.h.1:0"))
        assert [trial.prediction for trial in score.trials] == [True] * len(score.trials)


def test_n_tokens_and_tokens_come_in_either_order(tmp_path: Path) -> None:
    model = load("TransformersModel")
    submodule_dict = load_oai_autoencoders(model, LAYERS, OPENAI_CODERS)
    tokens = some_tokens(model)
    caches = []
    for name, arguments in {"a": (640, tokens), "b": (tokens, 640)}.items():
        cache = FeatureCache(model, submodule_dict, batch_size=4)
        cache.run(*arguments)
        cache.save_splits(2, tmp_path / name)
        caches.append((tmp_path / name / "transformer.h.1" / "0_1023.safetensors").read_bytes())
    assert caches[0] == caches[1]


def test_simulation_and_generation_scorers_go_by_their_names() -> None:
    """The README has headings for both and no calls; what they do is tested in tests/scorers."""
    assert (SimulationScorer.name, GenerationScorer.name) == ("simulation", "generation")


def _ones(request: Any) -> str:
    return ", ".join(["1"] * request.messages[-1].content.count("Excerpt "))
