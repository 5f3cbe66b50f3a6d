"""What a run file says of an autoencoder goes before its files; a place that is not in the model is then a warning."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import nnsight
import numpy as np
import pytest
import torch
import transformers

from sae_auto_interp.autoencoders import load_autoencoders
from sae_auto_interp.autoencoders.attach import attached_coder, placement_of
from sae_auto_interp.autoencoders.families import dictionary_learning, gemma_scope, openai, saelens
from sae_auto_interp.autoencoders.families.saelens import release_overrides
from sae_auto_interp.autoencoders.options import CoderOptions, Reading
from sae_auto_interp.autoencoders.settings import Normalisation
from sae_auto_interp.autoencoders.sparse_coder import SparseCoder
from sae_auto_interp.config.autoencoders import AutoencoderConfig, ReadingConfig
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.models.sites.site import Placement, Site
from tests.autoencoders import families, families_dictionary_learning, families_scopes, families_single_files
from tests.autoencoders.families import Array, Weights, random_weights
from tests.autoencoders.test_places import model, saelens_at, transcoder
from tests.support.records import D_MODEL

MLP = "transformer.h.0.mlp:out"


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> Weights:
    monkeypatch.setattr(families, "D_IN", D_MODEL)
    monkeypatch.setattr(families_scopes, "D_IN", D_MODEL)
    return families.random_weights()


def loaded(folder: Path, subject: Any = None, **options: Any) -> tuple[Placement, SparseCoder]:
    given = CoderOptions(**options, where="autoencoders[0]")
    ((_, handle),) = load_autoencoders(subject or model(), folder, options=given).items()
    coder = attached_coder(handle)
    assert isinstance(coder, SparseCoder)
    return placement_of(handle), coder


def gpt_neo() -> Any:
    """An architecture without a table of hook names."""
    config = transformers.GPTNeoConfig(
        hidden_size=D_MODEL, num_layers=2, num_heads=2, vocab_size=64, max_position_embeddings=32,
        attention_types=[[["global", "local"], 1]], intermediate_size=24,
    )  # fmt: skip
    return nnsight.NNsight(transformers.GPTNeoForCausalLM(config))


def test_site_serves_where_its_own_place_is_unknown(
    weights: Weights, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saelens_at(tmp_path, weights, "blocks.0.hook_mlp_out")
    place, _ = loaded(tmp_path, gpt_neo(), site=MLP)
    assert place == Placement((Site("transformer.h.0.mlp"),))
    assert "its own place is not found" in caplog.text


@pytest.mark.parametrize("hook", ["blocks.0.hook_unheard_of", "blocks.99.hook_mlp_out", "", "nothing.like.it"])
def test_site_serves_where_the_files_name_no_place_of_the_model(hook: str, weights: Weights, tmp_path: Path) -> None:
    saelens_at(tmp_path, weights, hook)
    assert loaded(tmp_path, site=MLP)[0].sites == (Site("transformer.h.0.mlp"),)


def unplaceable(folder: Path, family: str, w: Weights) -> Path:
    """Files of a family that say a place which is not in a GPT-2 of 3 blocks, or none."""
    if family == "sparsify":
        families.sparsify(folder, w).path.rename(folder / "layers.2.foo")
    elif family == "openai":
        families.openai_topk(folder, w).path.rename(folder / "77.pt")
    elif family == "goodfire":
        families_single_files.goodfire(folder, w).path.rename(folder / "some.pth")
    elif family == "qwen_scope":
        file = families_scopes.qwen_scope(folder, w).path
        return file.rename(file.parent / "layer40.sae.pt").parent
    elif family == "gemma_scope":
        families_scopes.gemma_scope(folder, w, "somewhere")
    elif family == "gemma_scope_2":
        families_scopes.gemma_scope_2(folder, w, "somewhere", hf_hook_point_in=None)
    elif family == "dictionary_learning":
        families_dictionary_learning.write(
            folder,
            families_dictionary_learning.linear(w, "decoder.bias"),
            families_dictionary_learning.config("AutoEncoderNew", submodule_name="resid_post_layer_50"),
        )
    else:
        families_scopes.llama_scope(folder, w, hook_point_in="blocks.9.x", hook_point_out="blocks.9.x")
    return folder


FAMILIES = [
    "sparsify", "openai", "goodfire", "qwen_scope", "gemma_scope", "gemma_scope_2", "dictionary_learning",
    "llama_scope",
]  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_site_serves_every_family(
    family: str, weights: Weights, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = unplaceable(tmp_path, family, weights)
    with pytest.raises(InputError):
        load_autoencoders(model(), root)
    place, coder = loaded(root, site="transformer.h.1:out")
    assert (place, coder.settings.family) == (Placement((Site("transformer.h.1"),)), family)
    assert "its own place is not found" in caplog.text


def test_a_transcoder_without_a_known_target_is_not_measured_unless_it_is_given(
    weights: Weights, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metadata = {"hook_name_out": "blocks.0.hook_mlp_out"}
    saelens_at(tmp_path, weights, "blocks.0.mlp.hook_in", architecture="transcoder", metadata=metadata)
    place, coder = loaded(tmp_path, gpt_neo(), site="transformer.h.0.mlp")
    assert (place, coder.settings.reconstructs) == (Placement((Site("transformer.h.0.mlp", "input"),)), False)
    assert "give autoencoders[0].target" in caplog.text
    place, coder = loaded(tmp_path, gpt_neo(), site="transformer.h.0.mlp", target=MLP)
    assert place == Placement((Site("transformer.h.0.mlp", "input"),), Site("transformer.h.0.mlp"))
    assert coder.settings.reconstructs


def test_a_module_transcoder_writes_what_its_new_module_gives(weights: Weights, tmp_path: Path) -> None:
    transcoder(tmp_path, weights).rename(tmp_path / "layers.2.foo")
    place, _ = loaded(tmp_path, site="h.2.mlp")
    assert place == Placement((Site("transformer.h.2.mlp", "input"),), Site("transformer.h.2.mlp"))


def test_a_crosscoders_places_are_a_list(weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "D_IN", 2 * D_MODEL)
    families_single_files.crosscoder(tmp_path, random_weights(), "nothing.of.it")
    sites = ("transformer.h.0:out", "blocks.2.hook_resid_post")
    assert loaded(tmp_path, site=sites)[0].sites == (Site("transformer.h.0"), Site("transformer.h.2"))
    with pytest.raises(InputError, match="name them: site: "):
        loaded(tmp_path, site="h.0")


def activations(n: int = 6) -> Array:
    return np.random.default_rng(5).normal(size=(n, D_MODEL)).astype(np.float32)


def dense(coder: SparseCoder, x: Array) -> Array:
    return coder(torch.from_numpy(x)).numpy()


def test_a_factor_in_training_and_centring(weights: Weights, tmp_path: Path) -> None:
    """As gpt2-small-mlp-tm: codes of 2 x, on centred activations."""
    families.write_saelens(tmp_path, weights, families.flat_config(normalize_activations="expected_average_only_in"))
    with pytest.raises(WeightsError, match="norm_scaling_factor in the run file"):
        loaded(tmp_path)
    place, coder = loaded(tmp_path, processed=True, norm_scaling_factor=2.0)
    assert place.sites == (Site("transformer.h.1.mlp", transform="centred"),)
    x = activations()
    wanted = np.maximum(families.pre_activations(weights, 2 * x, subtract=True), 0)
    assert np.allclose(dense(coder, x), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_a_factor_goes_before_files_that_say_none(factor: float, weights: Weights, tmp_path: Path) -> None:
    saelens_at(tmp_path, weights, "blocks.1.hook_resid_post")
    x = activations()
    wanted = np.maximum(families.pre_activations(weights, factor * x, subtract=True), 0)
    coder = loaded(tmp_path, norm_scaling_factor=factor)[1]
    assert np.allclose(dense(coder, x), wanted, rtol=1e-4, atol=1e-5)


def test_a_normalisation_goes_before_files_that_say_none(weights: Weights, tmp_path: Path) -> None:
    saelens_at(tmp_path, weights, "blocks.1.hook_resid_post")
    x = activations()
    scaled = x * math.sqrt(D_MODEL) / np.linalg.norm(x, axis=1, keepdims=True)
    wanted = np.maximum(families.pre_activations(weights, scaled, subtract=True), 0)
    assert np.allclose(dense(loaded(tmp_path, normalisation="constant_norm")[1], x), wanted, rtol=1e-4, atol=1e-5)


def test_a_normalisation_may_be_taken_away(weights: Weights, tmp_path: Path) -> None:
    families.openai_topk(tmp_path, weights).path.rename(tmp_path / "1.pt")
    x = activations()
    wanted = families.top_k(families.pre_activations(weights, x, subtract=True), families.K)
    assert np.allclose(dense(loaded(tmp_path, normalisation="none")[1], x), wanted, rtol=1e-4, atol=1e-5)


def test_k_goes_before_the_files_own(weights: Weights, tmp_path: Path) -> None:
    families.sparsify(tmp_path, weights)
    x = activations()
    coder = loaded(tmp_path, k=2)[1]
    pre = np.maximum(families.pre_activations(weights, x, subtract=True), 0)
    assert np.allclose(dense(coder, x), families.top_k(pre, 2), rtol=1e-4, atol=1e-5)
    assert coder.settings.claims.l0 == 2.0


def test_k_where_no_file_says_it(weights: Weights, tmp_path: Path) -> None:
    families_scopes.qwen_scope(tmp_path, weights).path.rename(tmp_path / "layer1.sae.pt")
    with pytest.raises(InputError, match="give k in the run file"):
        loaded(tmp_path / "layer1.sae.pt")
    assert loaded(tmp_path / "layer1.sae.pt", k=3)[1].settings.k == 3
    other = tmp_path / "flat"
    other.mkdir()
    families.write_saelens(other, weights, families.flat_config(activation_fn_str="topk"))
    assert loaded(other, k=4)[1].settings.k == 4


def test_location_and_reading(weights: Weights, tmp_path: Path) -> None:
    families.openai_relu(tmp_path, weights).path.rename(tmp_path / "1.pt")
    assert loaded(tmp_path, location="resid_delta_attn")[0].sites == (Site("transformer.h.1.attn"),)
    other = tmp_path / "other"
    families_dictionary_learning.auto_encoder(other, weights)
    x = activations()
    wanted = np.maximum(families.pre_activations(weights, x, subtract=True), 0)
    coder = loaded(other, reading=Reading(normalise_decoder=False))[1]
    assert np.allclose(dense(coder, x), wanted, rtol=1e-4, atol=1e-5)


def test_the_kind_of_gemma_scope(weights: Weights, tmp_path: Path) -> None:
    directory = families_scopes.gemma_scope(tmp_path, weights).path
    with pytest.raises(InputError, match="give kind in the run file"):
        gemma_scope.placement(model(), directory)
    with pytest.raises(InputError, match="unknown kind of Gemma Scope coder 'reds'; did you mean 'res'"):
        loaded(tmp_path, kind="reds")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"k": 3}, r"autoencoders\[0\]\.k: .* has the activation relu"),
        ({"kind": "res"}, r"autoencoders\[0\]\.kind: files of the family saelens have no such option"),
        ({"location": "resid_post_mlp"}, r"autoencoders\[0\]\.location"),
        ({"reading": Reading()}, "processed, norm_scaling_factor"),
        ({"site": ("h.0", "h.1")}, r"autoencoders\[0\]\.site: .* reads one place"),
        ({"normalisation": "none", "norm_scaling_factor": 2.0}, "give one of them"),
    ],
)
def test_what_does_not_apply_is_refused(option: dict[str, Any], message: str, weights: Weights, tmp_path: Path) -> None:
    saelens_at(tmp_path, weights, "blocks.1.hook_resid_post")
    with pytest.raises(InputError, match=message):
        loaded(tmp_path, **option)


@pytest.mark.parametrize(("k", "message"), [(41, "does not fit a width of 40"), (0, "does not fit")])
def test_a_k_beyond_the_width_is_refused(k: int, message: str, weights: Weights, tmp_path: Path) -> None:
    families.sparsify(tmp_path, weights)
    with pytest.raises(WeightsError, match=message):
        loaded(tmp_path, k=k)


RELEASES = {
    "models--jbloom--GPT2-Small-SAEs-Reformatted/snapshots/abc/blocks.8.hook_resid_pre": (True, None, None),
    "GPT2-Small-Feature-Splitting-Experiment-Layer-8/blocks.8.hook_resid_pre_768": (True, None, None),
    "gpt2-small-mlp-out-saes/sae_group_gpt2_blocks.11.hook_mlp_out_24576:v2": (True, 0.2851548652550073, None),
    "models--tommmcgrath--gpt2-small-mlp-out-saes/x/sae_group_gpt2_blocks.1.hook_mlp_out_24576:v0": (
        True, 2.3693984005104283, None,
    ),
    "Mistral-7B-Residual-Stream-SAEs/mistral_7b_layer_8": (None, None, "constant_norm"),
    "gemma-2b-residual-stream-saes/gemma_2b_blocks.12.hook_resid_post_16384": (None, 0.21381938399317255, None),
    "gemma-2b-residual-stream-saes/gemma_2b_blocks.10.hook_resid_post_16384": (None, None, None),
    "my_coders/blocks.8.hook_resid_pre": (None, None, None),
}  # fmt: skip


@pytest.mark.parametrize("path", RELEASES)
def test_releases_that_contradict_their_files_are_known_by_name(path: str) -> None:
    found = release_overrides(Path("/somewhere") / path)
    assert (found.processed, found.norm_scaling_factor, found.normalisation) == RELEASES[path]


def test_a_known_release_goes_before_its_files_and_the_run_file_before_both(weights: Weights, tmp_path: Path) -> None:
    folder = tmp_path / "Mistral-7B-Residual-Stream-SAEs"
    folder.mkdir()
    directory = saelens_at(folder, weights, "blocks.1.hook_resid_post")
    assert loaded(folder)[1].settings.normalisation == "constant_norm"
    assert saelens.read(directory).settings.normalisation == "constant_norm"
    assert loaded(folder, normalisation="none")[1].settings.normalisation == "none"
    assert loaded(folder, norm_scaling_factor=2.0)[1].settings.normalisation == "none"


def test_a_known_release_is_centred_without_a_word(
    weights: Weights, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "GPT2-Small-SAEs-Reformatted"
    folder.mkdir()
    families.write_saelens(folder, weights, families.flat_config())
    assert loaded(folder)[0].sites[0].transform == "centred"
    assert not caplog.messages
    assert loaded(folder, processed=False)[0].sites[0].transform == "none"


def test_the_run_file_knows_the_options_of_the_families() -> None:
    fields = AutoencoderConfig.model_fields
    options = set(CoderOptions.__dataclass_fields__) - {"where"}
    assert options == set(fields) - {"path", "module_paths"}
    assert set(ReadingConfig.model_fields) == set(Reading.__dataclass_fields__)
    assert ReadingConfig().model_dump() == {
        name: getattr(Reading(), name) for name in Reading.__dataclass_fields__
    }  # fmt: skip
    words = {name: _words(fields[name].annotation) for name in ("normalisation", "kind", "location")}
    assert words == {
        "normalisation": set(get_args(Normalisation)),
        "kind": {"res", "mlp", "att", "transcoders"},
        "location": set(openai.LOCATIONS),
    }
    assert dictionary_learning.OPTIONS == ("reading",)


def _words(annotation: Any) -> set[str]:
    return {word for part in get_args(annotation) for word in get_args(part)}


def test_options_are_kept_by_the_coder_that_is_written_again(weights: Weights, tmp_path: Path) -> None:
    families.sparsify(tmp_path, weights)
    coder = loaded(tmp_path, k=2)[1]
    assert coder.settings == replace(coder.settings, k=2)
    assert json.loads(json.dumps(coder.encoding_facts()))["k"] == 2
