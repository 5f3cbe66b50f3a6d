"""Where the coders of each family are attached, in tiny random models of the architectures they were made for."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nnsight
import numpy as np
import pytest
import torch

from sae_auto_interp.autoencoders import load_autoencoders
from sae_auto_interp.autoencoders.attach import attached_coder, placement_of
from sae_auto_interp.autoencoders.families import (
    circuit_tracer,
    crosscoder as crosscoders,
    gemma_scope,
    goodfire,
    qwen_scope,
)
from sae_auto_interp.autoencoders.families.dictionary_learning import load_sam_autoencoders
from sae_auto_interp.errors import InputError, UnknownNameError
from tests.autoencoders import (
    families_dictionary_learning as dl,
    families_scopes as scopes,
    families_single_files as single,
)
from tests.autoencoders.families import D_IN, Weights, Written, random_weights

IDS = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]])
SIZES = {"vocab_size": 32, "hidden_size": D_IN, "intermediate_size": 20, "num_hidden_layers": 2, "head_dim": 6,
         "num_attention_heads": 2, "num_key_value_heads": 2}  # fmt: skip


def tiny(kind: str) -> Any:
    """A random model of a class, of D_IN dimensions and two layers."""
    import transformers

    torch.manual_seed(0)
    if kind == "gpt2":
        config = transformers.GPT2Config(vocab_size=32, n_positions=16, n_embd=D_IN, n_layer=2, n_head=2)
        return transformers.GPT2LMHeadModel(config).eval()
    classes: dict[str, Any] = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "gemma2": (transformers.Gemma2Config, transformers.Gemma2ForCausalLM),
        "gemma3": (transformers.Gemma3TextConfig, transformers.Gemma3ForCausalLM),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    }
    config_class, model_class = classes[kind]
    model = model_class(config_class(**SIZES)).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:  # so that a norm with its gain is another tensor than without
            torch.nn.init.normal_(parameter)
    return model


def gemma_repository(kind: str) -> Callable[[Path], Written]:
    def write(folder: Path) -> Written:
        root = folder / f"gemma-scope-2b-pt-{kind}"
        root.mkdir()
        return scopes.gemma_scope(root, random_weights())

    return write


def gemma_embedding(folder: Path) -> Written:
    root = folder / "models--google--gemma-scope-2b-pt-res" / "snapshots" / "abc"
    root.mkdir(parents=True)
    return scopes.gemma_scope_embedding(root, random_weights())


def of(write: Callable[..., Written], **more: Any) -> Callable[[Path], Written]:
    return lambda folder: write(folder, random_weights(), **more)


NORM = "model.layers.1.pre_feedforward_layernorm:in (rms_norm)"
AFTER = "model.layers.1.post_feedforward_layernorm:out"
CASES: dict[str, tuple[Callable[[Path], Written], str, list[str], str | None]] = {
    "gemma res": (gemma_repository("res"), "gemma2", ["model.layers.1:out"], None),
    "gemma mlp": (gemma_repository("mlp"), "gemma2", [AFTER], None),
    "gemma att": (gemma_repository("att"), "gemma2", ["model.layers.1.self_attn.o_proj:in"], None),
    "gemma transcoders": (gemma_repository("transcoders"), "gemma2", [NORM], AFTER),
    "gemma embedding": (gemma_embedding, "gemma2", ["model.embed_tokens:out"], None),
    "gemma 2 res": (of(scopes.gemma_scope_2), "gemma3", ["model.layers.1:out"], None),
    "gemma 2 transcoder": (
        of(scopes.gemma_scope_2_affine), "gemma3", ["model.layers.1.pre_feedforward_layernorm:out"], AFTER,
    ),
    "gemma 2 clt": (
        of(scopes.gemma_scope_2_cross_layer), "gemma3", ["model.layers.1.pre_feedforward_layernorm:out"], AFTER,
    ),
    "llama": (of(scopes.llama_scope), "llama", ["model.layers.1:out"], "model.layers.1.mlp:out"),
    "llama r1": (of(scopes.llama_scope_r1), "llama", ["model.layers.1:out"], "model.layers.1.mlp:out"),
    "openmoss": (of(scopes.openmoss_token_wise), "llama", ["model.layers.1:out"], None),
    "goodfire": (of(single.goodfire), "llama", ["model.layers.1:out"], None),
    "qresearch": (of(single.qresearch), "llama", ["model.layers.1:out"], None),
    "circuit-tracer": (of(single.per_layer_transcoder), "qwen3", ["model.layers.1.mlp:in"], "model.layers.1.mlp:out"),
    "circuit-tracer clt": (
        of(single.per_layer_transcoder, config=single.CONFIG | {"feature_input_hook": "hook_resid_mid"}),
        "gemma2",
        ["model.layers.1.pre_feedforward_layernorm:in"], AFTER,
    ),
    "circuit-tracer gemma": (
        of(single.per_layer_transcoder, config=single.CONFIG | {"feature_input_hook": "ln2.hook_normalized"}), "gemma2",
        [NORM], AFTER,
    ),
    "dictionary_learning": (of(dl.gated), "gpt2", ["transformer.h.1:out"], None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_place_is_the_one_the_coder_was_trained_on(case: str, tmp_path: Path) -> None:
    write, kind, sites, target = CASES[case]
    written = write(tmp_path)
    model = nnsight.NNsight(tiny(kind))
    attached = load_autoencoders(model, written.path if kind == "gemma2" else tmp_path)
    (placement,) = (placement_of(handle) for handle in attached.values())
    assert [str(site) for site in placement.sites] == sites
    assert (None if placement.target is None else str(placement.target)) == target
    coder = attached_coder(attached[placement.home])
    code: Any = None
    with torch.inference_mode(), model.trace(input_ids=IDS):
        code = attached[placement.home].ae.output.save()
    assert code.shape == (2, 5, coder.width)


def test_qwen_scope_is_read_from_its_repository(tmp_path: Path) -> None:
    written = scopes.qwen_scope(tmp_path, random_weights())
    attached = load_autoencoders(nnsight.NNsight(tiny("qwen3")), written.path.parent, ["1"])
    assert list(attached) == ["model.layers.1"]
    attached = qwen_scope.load_qwen_scope_autoencoders(tiny("qwen3"), [1], written.path.parent, k=3)
    assert attached_coder(attached["model.layers.1"]).settings.k == 3


def test_a_gemma_transcoder_reads_the_residual_stream_normalised_without_the_gain(tmp_path: Path) -> None:
    """Recomputed from the block's parts: resid_mid / rms(resid_mid), and what the MLP adds after its norm."""
    written = gemma_repository("transcoders")(tmp_path)
    model = tiny("gemma2")
    caught: dict[str, torch.Tensor] = {}
    layer = model.model.layers[1]
    layer.register_forward_pre_hook(lambda _m, args: caught.update(pre=args[0]))
    layer.post_attention_layernorm.register_forward_hook(lambda _m, _a, out: caught.update(attention=out))
    layer.register_forward_hook(lambda _m, _a, out: caught.update(post=out[0] if isinstance(out, tuple) else out))
    wrapped = nnsight.NNsight(model)
    attached = load_autoencoders(wrapped, tmp_path / "gemma-scope-2b-pt-transcoders")
    (handle,) = attached.values()
    code: Any = None
    with torch.inference_mode(), wrapped.trace(input_ids=IDS):
        code = handle.ae.output.save()
    with torch.inference_mode():
        model(input_ids=IDS)
    mid = (caught["pre"] + caught["attention"]).double()
    normalised = mid / (mid.square().mean(-1, keepdim=True) + model.config.rms_norm_eps).sqrt()
    expected = written.encode(normalised.flatten(0, 1).numpy())
    torch.testing.assert_close(code.flatten(0, 1).double(), torch.tensor(expected), rtol=1e-4, atol=1e-4)
    assert (code > 0).any()


def test_a_gemma_kind_that_nothing_says_is_asked_for(tmp_path: Path) -> None:
    scopes.gemma_scope(tmp_path, random_weights())
    model = tiny("gemma2")
    with pytest.raises(InputError, match="use load_gemma_scope_autoencoders with kind="):
        load_autoencoders(model, tmp_path)
    attached = gemma_scope.load_gemma_scope_autoencoders(model, None, tmp_path, kind="mlp")
    assert list(attached) == ["model.layers.1.post_feedforward_layernorm"]
    with pytest.raises(UnknownNameError, match="did you mean 'transcoders'"):
        gemma_scope.load_gemma_scope_autoencoders(model, None, tmp_path, kind="transcoder")


def test_two_coders_of_one_place_are_not_guessed(tmp_path: Path) -> None:
    root = tmp_path / "gemma-scope-2b-pt-res"
    for l0 in (71, 137):
        scopes.gemma_scope(root, random_weights(), f"layer_1/width_16k/average_l0_{l0}")
    with pytest.raises(InputError, match=r"average_l0_137 and .*average_l0_71 are both for .*choose one"):
        load_autoencoders(tiny("gemma2"), root)
    attached = load_autoencoders(tiny("gemma2"), root, ["layer_1/width_16k/average_l0_71"])
    (handle,) = attached.values()
    assert attached_coder(handle).settings.claims.l0 == 71
    with pytest.raises(UnknownNameError, match="did you mean 'layer_1/width_16k/average_l0_71'"):
        load_autoencoders(tiny("gemma2"), root, ["layer_1/width_16k/average_l0_70"])


def test_a_goodfire_file_of_another_name_is_attached_where_it_is_told(tmp_path: Path) -> None:
    file = single.goodfire(tmp_path, random_weights()).path.rename(tmp_path / "mine.pt")
    with pytest.raises(InputError, match="use load_goodfire_autoencoder with a module path"):
        load_autoencoders(tiny("llama"), file)
    assert list(goodfire.load_goodfire_autoencoder(tiny("llama"), "layers.0.mlp", file)) == ["model.layers.0.mlp"]


def test_a_hook_name_that_a_config_lacks_is_named(tmp_path: Path) -> None:
    file = single.per_layer_transcoder(tmp_path, random_weights(), {"model_name": "x"}).path
    with pytest.raises(
        InputError, match=r"config\.yaml: feature_input_hook and feature_output_hook are \[None, None\]"
    ):
        circuit_tracer.coders_in(tiny("qwen3"), file.parent, None)


SUBMODULES = [
    ("resid_post_layer_1", "out", "transformer.h.1:out"),
    ("resid_pre_layer_1", "out", "transformer.h.1:in"),
    ("mlp_out_layer1", "out", "transformer.h.1.mlp:out"),
    ("mlp1", "in", "transformer.h.1.mlp:in"),
    ("attn_out_layer_0", "out", "transformer.h.0.attn:out"),
    ("transformer.h.0.mlp", "in", "transformer.h.0.mlp:in"),
    (None, "out", "transformer.h.1:out"),
]


@pytest.mark.parametrize(("name", "io", "site"), SUBMODULES)
def test_which_side_of_which_module_a_dictionary_reads(name: str | None, io: str, site: str, tmp_path: Path) -> None:
    w = random_weights()
    dl.write(tmp_path, dl.linear(w, "bias"), dl.config("AutoEncoder", submodule_name=name, buffer={"io": io}))
    attached = load_sam_autoencoders(tiny("gpt2"), None, tmp_path)
    (placement,) = (placement_of(handle) for handle in attached.values())
    assert [str(each) for each in placement.sites] == [site]


def test_a_dictionary_from_a_modules_input_to_its_output_is_a_transcoder(tmp_path: Path) -> None:
    config = dl.config("AutoEncoderNew", submodule_name="mlp_out_layer_1", buffer={"io": "in_and_out"})
    dl.write(tmp_path, dl.linear(random_weights(), "decoder.bias"), config)
    (handle,) = load_sam_autoencoders(tiny("gpt2"), None, tmp_path).values()
    assert str(placement_of(handle).sites[0]) == "transformer.h.1.mlp:in"
    assert str(placement_of(handle).target) == "transformer.h.1.mlp:out"


def test_dictionaries_are_chosen_by_layer_module_path_directory_or_checkpoint(tmp_path: Path) -> None:
    w = random_weights()
    for layer in (0, 1):
        for trainer in (0, 1):
            config = dl.config("AutoEncoder", layer=layer, submodule_name=f"resid_post_layer_{layer}", k=10 + trainer)
            if (layer, trainer) != (1, 1):
                dl.write(tmp_path / f"resid_post_layer_{layer}", dl.linear(w, "bias"), config, f"trainer_{trainer}")
    (tmp_path / "resid_post_layer_1" / "trainer_0" / "checkpoints").mkdir()
    checkpoint = tmp_path / "resid_post_layer_1" / "trainer_0" / "checkpoints" / "ae_500.pt"
    checkpoint.write_bytes((tmp_path / "resid_post_layer_1" / "trainer_0" / "ae.pt").read_bytes())
    model = tiny("gpt2")
    assert list(load_sam_autoencoders(model, [1], tmp_path)) == ["transformer.h.1"]
    assert list(load_sam_autoencoders(model, ["h.1"], tmp_path)) == ["transformer.h.1"]
    assert list(load_autoencoders(model, tmp_path, ["1"])) == ["transformer.h.1"]
    chosen = ["resid_post_layer_0/trainer_1", "resid_post_layer_1/trainer_0/checkpoints/ae_500.pt"]
    attached = load_sam_autoencoders(model, chosen, tmp_path)
    assert [attached_coder(handle).settings.claims.l0 for handle in attached.values()] == [11, 10]
    with pytest.raises(InputError, match="trainer_0 and resid_post_layer_0/trainer_1 are both for"):
        load_sam_autoencoders(model, [0], tmp_path)
    with pytest.raises(InputError, match="has none for '7'; it holds resid_post_layer_0/trainer_0"):
        load_sam_autoencoders(model, [7], tmp_path)


def test_a_dictionary_without_a_layer_is_refused(tmp_path: Path) -> None:
    config = dl.config("AutoEncoder", submodule_name=None, layer=None)
    dl.write(tmp_path, dl.linear(random_weights(), "bias"), config)
    with pytest.raises(InputError, match="neither a layer nor a submodule_name"):
        load_sam_autoencoders(tiny("gpt2"), None, tmp_path)


def test_a_crosscoder_of_two_models_is_attached_only_where_places_are_named(tmp_path: Path) -> None:
    directory = single.crosscoder(tmp_path, random_weights(), "blocks.1.hook_resid_pre").path
    model = tiny("gpt2")
    with pytest.raises(InputError, match=r"trained on 2 models, which all read blocks\.1\.hook_resid_pre"):
        load_autoencoders(model, directory)
    with pytest.raises(InputError, match="reads 2 places, but 3 are named"):
        crosscoders.load_crosscoder(model, ["h.0", "h.1", "h.1.mlp"], directory)


def test_a_config_with_a_broken_submodule_is_answered_with_the_nearest(tmp_path: Path) -> None:
    path = dl.auto_encoder(tmp_path, random_weights()).path
    config = json.loads((path / "config.json").read_text())
    config["trainer"]["submodule_name"] = "transformer.h.1.mpl"
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnknownNameError, match=r"did you mean 'transformer\.h\.1\.mlp'"):
        load_sam_autoencoders(tiny("gpt2"), None, tmp_path)


def as_in_the_hubs_cache(root: Path, repository: str) -> Path:
    """A copy of the files where each is a link to a blob without a name, below `models--{repository}/snapshots`."""
    cache = root.parent / "hub" / f"models--google--{repository}"
    (cache / "blobs").mkdir(parents=True)
    for number, file in enumerate(sorted(path for path in root.rglob("*") if path.is_file())):
        blob = file.rename(cache / "blobs" / str(number))
        link = cache / "snapshots" / "abc" / file.relative_to(root)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    return cache / "snapshots" / "abc"


def test_names_are_read_from_the_hubs_cache_though_its_files_are_links(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    scopes.gemma_scope_2_cross_layer(tmp_path / "files", random_weights())
    root = as_in_the_hubs_cache(tmp_path / "files", "gemma-scope-2-1b-pt")
    attached = load_autoencoders(tiny("gemma3"), root, ["clt/width_16k_l0_medium/params_layer_1"])
    (handle,) = attached.values()
    assert attached_coder(handle).settings.claims.model == "google/gemma-3-1b-pt"
    assert str(placement_of(handle).sites[0]) == "model.layers.1.pre_feedforward_layernorm:out"


@pytest.mark.parametrize(
    ("kind", "write", "name"),
    [
        ("gemma2", gemma_repository("res"), "params.npz"),
        ("llama", lambda folder: scopes.llama_scope(folder, random_weights()), "*.safetensors"),
        ("gpt2", lambda folder: single.crosscoder(folder, halves()), "cc_weights.pt"),
    ],
)
def test_a_single_file_that_is_recognised_is_read(
    kind: str, write: Callable[[Path], Written], name: str, tmp_path: Path
) -> None:
    (file,) = write(tmp_path).path.rglob(name)
    assert len(load_autoencoders(nnsight.NNsight(tiny(kind)), file)) == 1


def halves() -> Weights:
    """For two places."""
    w = random_weights()
    return replace(w, w_enc=np.tile(w.w_enc, 2), w_dec=np.tile(w.w_dec, 2), b_dec=np.tile(w.b_dec, 2))
