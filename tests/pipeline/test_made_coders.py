"""Neurons and random coders of a run file, cached by the stage that caches autoencoders."""

import json
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.config import RunConfig, parse_config
from sae_auto_interp.errors import ConfigError, InputError
from sae_auto_interp.features import FeatureDataset
from sae_auto_interp.pipeline.cache_stage import run_cache_stage
from sae_auto_interp.pipeline.resolved import resolve_inputs
from sae_auto_interp.pipeline.run_directory import RunDirectory, evidence_settings, with_digests
from tests.pipeline.test_record_stage import Counter

NEURONS = {"kind": "neurons", "module_paths": ["h.0.mlp.c_proj:in"], "k": 8}
RANDOM = {"kind": "random", "module_paths": ["h.1"], "width": 96, "k": 4}


def configuration(*autoencoders: Any, seed: int = 0) -> RunConfig:
    return parse_config(
        {
            "model": "embedded:language_model", "autoencoders": list(autoencoders), "seed": seed, "device": "cpu",
            "data": {"n_tokens": 1024, "ctx_len": 32, "max_chars_per_document": 500},
        }
    )  # fmt: skip


def claimed(config: RunConfig, folder: Path) -> RunDirectory:
    directory = RunDirectory(folder)
    directory.claim(evidence_settings(config))
    return directory


def cache(config: RunConfig, folder: Path) -> dict[str, Any]:
    """{module: its manifest}"""
    run_cache_stage(resolve_inputs(config), claimed(config, folder), Counter())
    return {
        path.parent.name: json.loads(path.read_text()) for path in sorted((folder / "features").glob("*/manifest.json"))
    }


def test_they_are_cached_beside_each_other_and_again_the_same(tmp_path: Path) -> None:
    manifests = cache(configuration(NEURONS, RANDOM), tmp_path / "a")
    assert {path: (m["autoencoder"], m["width"] > 90) for path, m in manifests.items()} == {
        "transformer.h.0.mlp.c_proj": ("neurons:neurons", True),
        "transformer.h.1": ("random:random", True),
    }
    per_token = {
        path: sum(s["n_activations"] for s in m["shards"]) / (m["n_rows"] * m["ctx_len"])
        for path, m in manifests.items()
    }
    assert 2 < per_token["transformer.h.0.mlp.c_proj"] <= 8
    assert 2 < per_token["transformer.h.1"] <= 4
    again = cache(configuration(RANDOM), tmp_path / "b")["transformer.h.1"]
    assert again["weights_sha256"] == manifests["transformer.h.1"]["weights_sha256"]
    other = cache(configuration(RANDOM, seed=1), tmp_path / "c")["transformer.h.1"]
    assert other["weights_sha256"] != again["weights_sha256"]
    assert set(FeatureDataset(tmp_path / "a" / "features").readers) == set(manifests)


def test_what_begins_a_row_is_up_to_the_trained_autoencoders(tmp_path: Path) -> None:
    """SAELens' coder was trained with a BOS token; neurons have no say."""
    trained = "embedded:sparse_coders/saelens"
    for name, coders in (("both", [RANDOM, trained]), ("alone", [trained])):
        cache(configuration(*coders), tmp_path / name)
    both, alone = (RunDirectory(tmp_path / name).load_tokens().tokens for name in ("both", "alone"))
    assert (both == alone).all()


def test_two_at_one_module_have_names_of_their_own(tmp_path: Path) -> None:
    manifests = cache(configuration(RANDOM, RANDOM | {"width": 64}), tmp_path)
    widths = {path: manifest["width"] for path, manifest in manifests.items()}
    assert widths == {"transformer.h.1": RANDOM["width"], "transformer.h.1@random": 64}


def test_the_same_one_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"autoencoders\[1\] is the same as autoencoders\[0\]"):
        run_cache_stage(resolve_inputs(configuration(RANDOM, RANDOM)), RunDirectory(tmp_path), Counter())


def test_more_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neurons: k=100000 does not fit"):
        run_cache_stage(resolve_inputs(configuration(NEURONS | {"k": 100_000})), RunDirectory(tmp_path), Counter())


def test_their_settings_are_the_runs_evidence() -> None:
    found = [
        with_digests(evidence_settings(configuration(coder))) for coder in (RANDOM, RANDOM | {"width": 64}, NEURONS)
    ]
    assert len({json.dumps(each, sort_keys=True) for each in found}) == 3
    assert list(found[0]["files"]) == ["model", "data.source"]
