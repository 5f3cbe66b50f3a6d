"""What files and other libraries call a place -> the site; what is unknown is answered with the nearest names."""

import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import nnsight
import pytest
import torch
from torch import nn

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.callable_coder import token_site
from sae_auto_interp.errors import InputError, UnknownNameError
from sae_auto_interp.models.by_hooks import capture
from sae_auto_interp.models.sites.hook_names import hook_names, hook_site, sites_of_layer
from sae_auto_interp.models.sites.published_sites import SOURCE_SETS, dictionary_site, gemma_scope_site, source_site
from sae_auto_interp.models.sites.site import Site
from sae_auto_interp.models.sites.site_names import resolve_site
from tests.models.tiny_models import NAMES, tiny_model
from tests.support.records import byte_level_tokenizer, tiny_coder

model_of = cache(tiny_model)


@pytest.mark.parametrize(
    ("architecture", "name", "site"),
    [
        # our own addresses, exact paths, and paths below the base model
        ("gpt2", "transformer.h.1.mlp", "transformer.h.1.mlp:out"),
        ("gpt2", "transformer.h.1.mlp:in", "transformer.h.1.mlp:in"),
        ("gpt2", "h.1.attn#0", "transformer.h.1.attn:out"),
        ("gpt2", "h.1.attn:out#1", "transformer.h.1.attn:out#1"),
        ("gpt2", "h.2", "transformer.h.2:out"),
        ("gpt2", "h.2 (centred)", "transformer.h.2:out (centred)"),
        ("gpt2", "blocks.2.hook_resid_pre (centred)", "transformer.h.2:in (centred)"),
        ("gpt2", "wte", "transformer.wte:out"),
        ("llama", "layers.1.mlp", "model.layers.1.mlp:out"),
        ("llama", "embed_tokens", "model.embed_tokens:out"),
        ("gpt_neox", "layers.2", "gpt_neox.layers.2:out"),
        ("llama", "2.self_attn.o_proj:in", "model.layers.2.self_attn.o_proj:in"),
        # multimodal: the text stack, also where a causal model's path is given; the vision tower by its own
        ("gemma3_multimodal", "layers.1", "model.language_model.layers.1:out"),
        ("gemma3_multimodal", "model.layers.1.mlp", "model.language_model.layers.1.mlp:out"),
        ("gemma3_multimodal", "embed_tokens", "model.language_model.embed_tokens:out"),
        ("gemma3_multimodal", "vision_tower.encoder.layers.1", "model.vision_tower.encoder.layers.1:out"),
        # TransformerLens and SAELens
        ("gpt2", "hook_embed", "transformer.wte:out"),
        ("gpt2", "blocks.1.hook_resid_pre", "transformer.h.1:in"),
        ("gpt2", "blocks.1.hook_resid_mid", "transformer.h.1.ln_2:in"),
        ("gpt2", "blocks.1.ln2.hook_normalized", "transformer.h.1.ln_2:in (layer_norm)"),
        ("llama", "blocks.1.ln1.hook_normalized", "model.layers.1.input_layernorm:in (rms_norm)"),
        ("llama", "blocks.1.hook_mlp_in", "model.layers.1.mlp:in"),
        ("gemma2", "blocks.1.hook_mlp_out", "model.layers.1.post_feedforward_layernorm:out"),
        ("gemma2", "blocks.1.mlp.hook_out", "model.layers.1.mlp:out"),
        ("gpt_neox", "blocks.1.attn.hook_z", "gpt_neox.layers.1.attention.dense:in"),
        ("gpt_neox_sequential", "blocks.1.hook_resid_mid", "gpt_neox.layers.1.post_attention_layernorm:in"),
        ("gpt_oss", "blocks.2.hook_mlp_out", "model.layers.2.mlp:out"),
        # Gemma Scope 2's and SAELens' paths of Hugging Face modules
        ("gemma3", "model.layers.1.output", "model.layers.1:out"),
        ("gemma3", "model.layers.1.self_attn.o_proj.input", "model.layers.1.self_attn.o_proj:in"),
        ("gemma3_multimodal", "model.layers.1.output", "model.language_model.layers.1:out"),
        ("gemma3_multimodal", "model.layers.0.pre_feedforward_layernorm.output",
         "model.language_model.layers.0.pre_feedforward_layernorm:out"),
        # dictionary_learning reads modules, not what is added to the stream
        ("qwen2", "resid_post_layer_1", "model.layers.1:out"),
        ("gpt_neox", "resid_out_layer1", "gpt_neox.layers.1:out"),
        ("gpt_neox", "attn_out_layer1", "gpt_neox.layers.1.attention:out"),
        ("gemma2", "mlp_out_layer_1", "model.layers.1.mlp:out"),
        ("llama", "resid_pre_layer_2", "model.layers.2:in"),
        # Neuronpedia
        ("gpt2", "2-res-jb", "transformer.h.2:in (centred)"),
        ("gpt2", "3-res-jb", "transformer.h.2:out (centred)"),
        ("gpt2", "gpt2-small/2-res-jb", "transformer.h.2:in (centred)"),
        ("gpt2", "1-res_fs768-jb", "transformer.h.1:in (centred)"),
        ("gpt2", "1-att-kk", "transformer.h.1.attn.c_proj:in"),
        ("gpt2", "1-tres-dc", "transformer.h.1.ln_2:in (layer_norm)"),
        ("gpt2", "1-res_post_32k-oai", "transformer.h.1:out"),
        ("gpt2", "1-res_mid_128k-oai", "transformer.h.1.ln_2:in"),
        ("gpt2", "1-att_32k-oai", "transformer.h.1.attn:out"),
        ("gpt2", "1-mlp_32k-oai", "transformer.h.1.mlp:out"),
        ("gpt_neox", "1-att-sm", "gpt_neox.layers.1.attention:out"),
        ("gpt_neox", "e-att-sm", "gpt_neox.layers.0:in"),
        ("gemma", "2-res-jb", "model.layers.2:out"),
        ("gemma2", "2-gemmascope-res-16k", "model.layers.2:out"),
        ("gemma2", "gemma-2-2b/2-gemmascope-res-16k__l0-18", "model.layers.2:out"),
        ("gemma2", "1-gemmascope-mlp-65k", "model.layers.1.post_feedforward_layernorm:out"),
        ("gemma2", "1-gemmascope-att-16k", "model.layers.1.self_attn.o_proj:in"),
        ("gemma2", "1-gemmascope-transcoder-16k", "model.layers.1.pre_feedforward_layernorm:in (rms_norm)"),
        ("gemma2", "1-clt-hp", "model.layers.1.pre_feedforward_layernorm:in"),
        ("gemma3", "1-gemmascope-2-transcoder-16k", "model.layers.1.mlp:in"),
        ("gemma3_multimodal", "1-gemmascope-2-res-65k", "model.language_model.layers.1:out"),
        ("llama", "2-llamascope-res-32k", "model.layers.2:out"),
        ("llama", "2-llamascope-att-32k", "model.layers.2.self_attn:out"),
        ("llama", "2-llamascope-slimpj-openr1-res-32k", "model.layers.2:out"),
        ("qwen3", "1-transcoder-hp-lowl0", "model.layers.1.mlp:in"),
        ("gpt_oss", "1-resid-post-aa", "model.layers.1:out"),
    ],
)  # fmt: skip
def test_what_a_name_means(architecture: str, name: str, site: str) -> None:
    assert str(resolve_site(model_of(architecture), name)) == site


@pytest.mark.parametrize("architecture", NAMES)
def test_every_hook_name_and_every_printed_site_is_found_again(architecture: str) -> None:
    model = model_of(architecture)
    for layer in range(3):
        for name, site in sites_of_layer(model, layer).items():
            assert resolve_site(model, name) == hook_site(model, name.split(".", 2)[2], layer) == site
            assert resolve_site(model, str(site)) == site
    assert [name for name in hook_names(model) if name.startswith("blocks.1.")] == list(sites_of_layer(model, 1))


def test_the_side_of_a_bare_path_is_for_the_caller_to_say() -> None:
    model = model_of("gpt2")
    for name in ("h.1", "transformer.h.1"):
        assert resolve_site(model, name, "input") == Site("transformer.h.1", "input")
    for name in ("h.1:out", "h.1.output", "blocks.1.hook_resid_post"):
        assert resolve_site(model, name, "input") == Site("transformer.h.1", "output")


def test_a_module_that_is_called_output_is_found_before_a_side() -> None:
    model = nn.ModuleDict({"dense": nn.ModuleDict({"output": nn.Linear(2, 2)})})
    assert resolve_site(model, "dense.output") == Site("dense.output")
    assert resolve_site(model, "dense.output.input") == Site("dense.output", "input")


@pytest.mark.parametrize(
    ("architecture", "name", "message"),
    [
        ("gpt2", "blocks.1.hook_resid_pst", "unknown hook name .*; did you mean 'blocks.1.hook_resid_post'"),
        ("gpt2", "blocks.7.hook_mlp_out", r"\(the model has layers 0 to 2\) .*; did you mean 'blocks.2.hook_mlp_out'"),
        ("gpt2", "block.1.hook_mlp_out", "did you mean 'blocks.1.hook_mlp_out'"),
        ("gpt2", "h.1.mpl", "unknown module path 'h.1.mpl'; did you mean 'transformer.h.1.mlp'"),
        ("gpt2", "h.1.mpl:in", "unknown module path 'h.1.mpl:in'; did you mean 'transformer.h.1.mlp'"),
        ("llama", "resid_post_layer_9", r"\(the model has layers 0 to 2\)"),
        ("gpt2", "5-res-xy", "unknown Neuronpedia source set of gpt2 models 'res-xy'; did you mean 'res-jb'"),
        ("llama", "5-res-jb", "unknown Neuronpedia source set of llama models 'res-jb'"),
        ("gpt_neox", "e-res-sm", "unknown Neuronpedia source set of gpt_neox models 'res-sm'"),
        ("olmo2", "1-res-jb", "unknown Neuronpedia source set of olmo2 models 'res-jb'"),
        ("gpt2", "9-res-jb", r"\(the model has layers 0 to 2\) .*blocks.9.hook_resid_pre"),
        ("gpt2", "", "unknown module path ''"),
        ("gpt2", "h.1:up", "unknown module path 'h.1:up'"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(architecture: str, name: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        resolve_site(model_of(architecture), name)


def test_names_without_a_meaning_are_refused_with_the_reason() -> None:
    other = nn.Sequential(nn.Linear(2, 2))
    for name in ("blocks.0.hook_resid_post", "hook_embed", "resid_post_layer_0", "0-res-jb"):
        with pytest.raises(InputError, match=r"has a meaning for models of type gpt2, .* but this one is Sequential"):
            resolve_site(other, name)
    assert hook_names(other) == []
    with pytest.raises(InputError, match="the model has no layer 3; it has 0 to 2"):
        sites_of_layer(model_of("gpt2"), 3)
    with pytest.raises(InputError, match=r"Linear, which is no norm with an epsilon"):
        resolve_site(model_of("llama"), "layers.1.mlp.up_proj:in (rms_norm)")
    with pytest.raises(InputError, match="Gemma Scope is of Gemma 2 and 3; this model is of type llama"):
        gemma_scope_site(model_of("llama"), "res", 1)
    with pytest.raises(UnknownNameError, match="unknown Gemma Scope site 'transcoder'; did you mean 'transcoder_"):
        gemma_scope_site(model_of("gemma2"), "transcoder", 1)
    with pytest.raises(InputError, match="no name of dictionary_learning's"):
        dictionary_site(model_of("llama"), "layer_3")
    with pytest.raises(InputError, match="'res-jb' is no source id"):
        source_site(model_of("gpt2"), "res-jb")


def test_every_set_of_the_table_is_of_a_place_that_its_architecture_has() -> None:
    names = {"gemma3_text": "gemma3"}
    for model_type, sets in SOURCE_SETS.items():
        for pattern in sets:
            assert source_site(model_of(names.get(model_type, model_type)), f"1-{pattern.replace('*', '16k')}")


class Adapted(nn.Module):
    """As PEFT wraps: the model two attributes down, linear layers with an adapter beside them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.base_model = nn.ModuleDict({"model": model})
        self.config = getattr(model, "config", None)

    def forward(self, **inputs: Any) -> Any:
        return self.base_model["model"](**inputs)


@pytest.mark.parametrize("name", ["layers.1.mlp", "model.layers.1.mlp", "blocks.1.mlp.hook_out", "mlp_out_layer_1"])
def test_below_an_adapters_prefix(name: str) -> None:
    model = Adapted(tiny_model("llama"))
    assert resolve_site(model, name) == Site("base_model.model.model.layers.1.mlp")


@pytest.mark.parametrize("name", ["layers.1.mlp", "model.layers.1.mlp", "blocks.1.mlp.hook_out"])
@pytest.mark.parametrize("wrapper", ["torch", "NNsight", "LanguageModel", "TransformersModel"])
def test_every_kind_of_model_is_accepted(wrapper: str, name: str, tmp_path: Path) -> None:
    model = tiny_model("llama")
    wrapped: Any = nnsight.NNsight(model) if wrapper == "NNsight" else model
    if wrapper in ("LanguageModel", "TransformersModel"):
        model.save_pretrained(tmp_path)
        byte_level_tokenizer(["a"], vocab_size=270).save_pretrained(tmp_path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `LanguageModel` is deprecated; loading a pipeline warns of other things
            task = {"task": "text-generation"} if wrapper == "TransformersModel" else {}
            wrapped = getattr(nnsight, wrapper)(str(tmp_path), device_map="cpu", dispatch=True, **task)
    assert resolve_site(wrapped, name) == Site("model.layers.1.mlp")


def test_two_stacks_of_blocks_are_not_guessed_between() -> None:
    model = nn.ModuleDict({"teacher": tiny_model("gpt2"), "student": tiny_model("gpt2", 1)})
    with pytest.raises(InputError, match=r"several stacks of blocks \(teacher\.transformer, student\.transformer\)"):
        resolve_site(model, "blocks.1.hook_resid_post")
    assert resolve_site(model, "student.transformer.h.1") == Site("student.transformer.h.1")
    assert list(attach(model, {"student.transformer.h.1": tiny_coder("relu")})) == ["student.transformer.h.1"]


def test_a_stack_behind_a_wrapper_is_one_stack() -> None:
    model = tiny_model("llama")
    model.model = torch.compile(model.model, backend="eager")
    for name in ("blocks.1.hook_resid_post", "layers.1", "model.layers.1"):
        assert resolve_site(model, name) == Site("model._orig_mod.layers.1")


def test_embeddings_that_gemma_has_not_scaled_are_not_taken_for_scaled_ones() -> None:
    """As in transformers 4, where the model scales what its embedding gives."""
    model = tiny_model("gemma2")
    model.model.embed_tokens = nn.Embedding(50, 16)
    with pytest.raises(InputError, match=r"model\.embed_tokens .* not scaled yet, .*'blocks.0.hook_resid_pre'"):
        resolve_site(model, "hook_embed")


def test_centred_sites_are_exact_against_weights_that_were_centred_by_hand() -> None:
    """TransformerLens' `center_writing_weights` takes the mean off whatever is written to the residual stream."""
    plain, centred = tiny_model("gpt2").double(), tiny_model("gpt2").double()
    with torch.no_grad():
        for name, value in centred.named_parameters():
            writes = name.endswith(("wte.weight", "wpe.weight", "attn.c_proj.weight", "mlp.c_proj.weight"))
            if writes or name.endswith(("attn.c_proj.bias", "mlp.c_proj.bias")):
                value -= value.mean(-1, keepdim=True)
    tokens = torch.arange(3, 17).reshape(2, 7)
    hooks = ("hook_resid_pre", "hook_attn_out", "hook_resid_mid", "hook_mlp_out", "hook_resid_post")
    sites = {hook: hook_site(plain, hook, 1) for hook in hooks}
    asked = {hook: replace(site, transform="centred") for hook, site in sites.items()}
    found = capture(plain, asked, tokens, torch.ones_like(tokens))
    expected = capture(centred, sites, tokens, torch.ones_like(tokens))
    for hook in hooks:
        torch.testing.assert_close(found[hook], expected[hook].float(), rtol=1e-5, atol=1e-6)
        assert not torch.allclose(expected[hook], capture(plain, sites, tokens, torch.ones_like(tokens))[hook])


def test_the_place_of_token_ids_is_read_back_as_it_is_printed() -> None:
    model = model_of("gpt2")
    assert resolve_site(model, str(token_site(model))) == token_site(model)


def test_what_a_module_reads_has_no_items() -> None:
    with pytest.raises(InputError, match="what a module reads has no items"):
        resolve_site(model_of("gpt2"), "h.0.mlp:in#1")


@pytest.mark.parametrize("kind", ["sce", "scefr", "scl", "sle", "slefr", "sll"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_end_to_end_sets_of_gpt2_read_what_a_block_reads(kind: str, layer: int) -> None:
    for name in (f"{layer}-res_{kind}-ajt", f"gpt2-small/{layer}-res_{kind}-ajt"):
        assert str(resolve_site(model_of("gpt2"), name)) == f"transformer.h.{layer}:in"


@pytest.mark.parametrize("name", ["2-res_sxx-ajt", "2-mlp_sce-ajt"])
def test_other_sets_of_theirs_are_not_guessed(name: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown Neuronpedia source set"):
        resolve_site(model_of("gpt2"), name)
