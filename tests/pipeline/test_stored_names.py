"""Explanations by others go to the run's features by whatever name they have; what can be of none is refused."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.config import parse_config
from sae_auto_interp.errors import InputError
from sae_auto_interp.explainers.stored import StoredExplainer
from sae_auto_interp.pipeline.cache_stage import run_cache_stage
from sae_auto_interp.pipeline.resolved import resolve
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.stored_names import StoredNames, form_of_model, named_explainer
from sae_auto_interp.types import FeatureId

RUN: Mapping[str, int | None] = {"transformer.h.1": 12, "transformer.h.2.mlp": 1536}
ONE: Mapping[str, int | None] = {"transformer.h.1": 12}


@pytest.fixture(scope="module")
def model() -> Any:
    return form_of_model("embedded:language_model", str)


def explainer(folder: Path, *entries: Any) -> StoredExplainer:
    path = folder / "e.jsonl"
    path.write_text("\n".join(map(json.dumps, entries)))
    return StoredExplainer(path=str(path))


def unneeded() -> Any:
    raise AssertionError("the model is not needed for these names")


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("transformer.h.1", "transformer.h.1"),
        ("h.1", "transformer.h.1"),
        ("m.h.1", "transformer.h.1"),
        ("m.transformer.h.1", "transformer.h.1"),
        ("model.transformer.h.1", "transformer.h.1"),
        ("h.2.mlp", "transformer.h.2.mlp"),
        ("_orig_mod.transformer.h.2.mlp", "transformer.h.2.mlp"),
        ("2.mlp", "transformer.h.2.mlp"),
    ],
)
def test_a_name_by_itself(name: str, module: str, tmp_path: Path) -> None:
    given = explainer(tmp_path, {"module_path": name, "index": 7, "text": "money"})
    found = named_explainer(given, StoredNames(RUN, unneeded))
    assert isinstance(found, StoredExplainer)
    assert found.features == {FeatureId(module, 7)}


@pytest.mark.parametrize(
    ("entry", "module"),
    [
        ({"layer": "1-res-jb", "index": "7", "description": "money"}, "transformer.h.1"),
        ({"layer": "m/1-res-jb", "index": "7", "description": "money"}, "transformer.h.1"),
        ({"layer": "blocks.1.hook_resid_pre", "index": 7, "text": "money"}, "transformer.h.1"),
        ({"layer": "resid_post_layer_1", "index": 7, "text": "money"}, "transformer.h.1"),
        ({"layer": "2-mlp_32k-oai", "index": 7, "text": "money"}, "transformer.h.2.mlp"),
    ],
)
def test_a_public_name_is_looked_up_in_the_models_form(entry: Any, module: str, tmp_path: Path, model: Any) -> None:
    found = named_explainer(explainer(tmp_path, entry), StoredNames(RUN, lambda: model))
    assert isinstance(found, StoredExplainer)
    assert found.features == {FeatureId(module, 7)}


def test_indices_alone_are_of_the_only_autoencoder(tmp_path: Path) -> None:
    given = explainer(tmp_path, {"7": "money"})
    found = named_explainer(given, StoredNames(ONE, unneeded))
    assert isinstance(found, StoredExplainer)
    assert found.features == {FeatureId("transformer.h.1", 7)}
    with pytest.raises(InputError, match=r"gives indices alone, and this run has several .*transformer\.h\.1"):
        named_explainer(given, StoredNames(RUN, unneeded))


@pytest.mark.parametrize(
    "entry",
    [
        {"feature": "h.3:6", "text": "money"},
        {"feature": "layers.1:6", "text": "money"},
        {"feature": "transformer.h.1:12", "text": "money"},
        {"layer": "5-res-jb", "index": "1", "text": "money"},
        {"layer": "1-no-such-set", "index": "1", "text": "money"},
        {"modelId": "gemma-2-2b", "layer": "1-res-jb", "index": "1", "text": "money"},
    ],
)
def test_what_is_of_no_feature_is_refused_with_examples_of_both(entry: Any, tmp_path: Path, model: Any) -> None:
    with pytest.raises(
        InputError, match=r"none of the 1 explanations in .*: the file has .*, the run transformer\.h\.1:11"
    ):
        named_explainer(explainer(tmp_path, entry), StoredNames(RUN, lambda: model))


def test_two_sources_at_one_place_are_not_mixed(tmp_path: Path, model: Any) -> None:
    given = explainer(
        tmp_path,
        {"layer": "1-res-jb", "index": "7", "text": "money"},
        {"layer": "1-res_post_32k-oai", "index": "8", "text": "time"},
    )
    with pytest.raises(InputError, match="explanations of 1-res-jb and 1-res_post_32k-oai, which are all at"):
        named_explainer(given, StoredNames(RUN, lambda: model))


def test_few_matches_are_said_with_counts(tmp_path: Path, model: Any) -> None:
    entries = [{"feature": f"h.3:{i}", "text": "money"} for i in range(8)]
    entries += [{"feature": "h.1:1", "text": "time"}, {"feature": "h.1:2", "text": "N/A"}]
    entries += [{"feature": "h.1:1", "text": "clocks"}]
    wanted = [FeatureId("transformer.h.1", i) for i in range(1, 7)]
    said: list[str] = []
    named_explainer(explainer(tmp_path, *entries), StoredNames(RUN, lambda: model), wanted, said.append)
    assert [line.partition("): ")[2] for line in said] == [
        "warning: only 3 of 11 are of this run's autoencoders",
        "warning: only 1 of the run's 6 features have one",
        "1 left out, which are no explanations (refusals, errors, empty forms)",
        "1 features have several; the first one counts (explainers.stored.several)",
    ]


def test_features_that_the_run_did_not_choose_are_refused(tmp_path: Path) -> None:
    given = explainer(tmp_path, {"feature": "h.1:1", "text": "time"})
    with pytest.raises(InputError, match=r"none of the 1 features .*has transformer\.h\.1:1, .*features\.indices"):
        named_explainer(given, StoredNames(RUN, unneeded), [FeatureId("transformer.h.1", 2)])


def test_a_file_that_can_match_nothing_ends_the_run_before_caching(tmp_path: Path) -> None:
    from tests.support.progress import Counter

    (tmp_path / "e.json").write_text('{"transformer.h.77:1": "money"}')
    config = parse_config({
        "model": "embedded:language_model", "device": "cpu", "autoencoders": ["embedded:sparse_coders/openai"],
        "data": {"n_tokens": 3000, "ctx_len": 64},
        "explainers": [{"name": "stored", "path": str(tmp_path / "e.json"), "judge": "lexical"}],
    })  # fmt: skip
    directory, run = RunDirectory(tmp_path / "run"), resolve(config)
    directory.claim(run.evidence)
    with pytest.raises(InputError, match=r"none of the 1 explanations .*transformer\.h\.77:1"):
        run_cache_stage(run.inputs, directory, Counter(), explainers=[run.components.explainers[0].explainer])
    assert not directory.features.exists()
